"""Judge a run's answers and samples with rules, or with a language model whose responses are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from probemap.grading.locate import RULE_LOCATORS, locate_answer, paper_locator, rule_locator
from probemap.grading.rules import grade, grade_answer
from probemap.logger import SILENT, Logger
from probemap.records import Answer, Judgement, JudgeResponse, RunError, Task, Verdict
from probemap.runs.definitions import JUDGE
from probemap.runs.plan import Context

if TYPE_CHECKING:  # torch takes seconds to import, and the rules do not need it
    from probemap.grading.llm import LLMJudge
    from probemap.grading.locate import Locator
    from probemap.runs.options import JudgeOptions
    from probemap.runs.run import Run


def judgements_of(
    task: Task, answers: Sequence[Answer], verdicts: Sequence[Verdict], locator: Locator | None, paper: bool = False
) -> list[Judgement]:
    """Locate the exact answers, and combine them with the verdicts into judgements.

    Parameters
    ----------
    locator : Locator or None
        Locator for all answers.  If None, the rules locate the exact answers.
    paper : bool
        Whether to use `paper_locator`, which depends on the verdict.  It uses `locator` for answers that are not
        correct.
    """
    judgements = []
    for example, answer, verdict in zip(task.examples, answers, verdicts, strict=True):
        find = locator
        if paper:
            find = paper_locator(example, verdict.correct, locator or rule_locator(task, example))
        judgements.append(Judgement(answer.id, verdict, *locate_answer(task, example, answer, find)))
    return judgements


@dataclass(frozen=True)
class ModelJudge:
    """A language model that judges answers and locates exact answers.

    Its responses are stored in ``opinions.jsonl``.
    """

    run: Run
    judge: LLMJudge
    logger: Logger
    responses: list[JudgeResponse] = field(default_factory=list)
    """The stored responses.  New responses are appended."""

    @property
    def name(self) -> str:
        """Model name, followed by the revision or the server address."""
        return self.judge.name

    def verdicts(self, task: Task, answers: Sequence[Answer]) -> list[Verdict]:
        """Return the verdict on each answer.  Verdicts that were supplied with the answers take precedence."""
        from probemap.grading.llm import grading_task
        from probemap.grading.llm_replies import parse_verdict

        pairs = [(e, a) for e, a in zip(task.examples, answers, strict=True) if a.verdict is None]
        questions, ungraded = [e for e, _ in pairs], [a for _, a in pairs]
        responses = self._responses(grading_task(questions, ungraded, strict=self.judge.strict))
        return grade(task, answers, grader=lambda example, text: parse_verdict(responses[example.id], text))

    def locator(self, task: Task, answers: Sequence[Answer]) -> Locator:
        """Return a locator that finds the parts of the answers that the model chooses or quotes as exact answers."""
        from probemap.grading.llm import locating_task, response_locator

        responses = self._responses(locating_task(self.judge, task.examples, answers))
        texts = [(e.question, a.final.text) for e, a in zip(task.examples, answers, strict=True)]
        replies = {key: responses.get(a.id, "") for key, a in zip(texts, answers, strict=True)}
        return response_locator(self.judge, replies)

    def _responses(self, requests: Task) -> dict[str, str]:
        """Return a mapping from ids to responses.  Only requests without a stored response are sent to the model.

        Raises
        ------
        RunError
            If the budget is exhausted.  The responses received before that are stored.
        """
        from probemap.grading.llm import new_responses, responses_by_id, without_response

        missing = without_response(self.judge, requests, self.responses)
        if missing.examples:
            self.logger.log(self._announcement(requests, missing))
        n_new = 0
        for batch in new_responses(self.judge, requests, self.responses):
            self.run.append_judge_responses(batch)
            self.responses.extend(batch)
            n_new += len(batch)
            self.logger.progress(requests.name, n_new, len(missing.examples))
        budget = self.judge.budget
        if budget is not None and budget.is_exhausted:
            n_stored = len(requests.examples) - len(missing.examples) + n_new
            raise RunError(
                f"the budget of {budget.limit} tokens does not allow another request: {budget.used} tokens were used, "
                f"and {n_stored} of {len(requests.examples)} {requests.name} are stored",
                "repeat the command, which continues where it stopped; a higher --judge-budget allows more requests",
            )
        return responses_by_id(self.judge, requests, self.responses)

    def _announcement(self, requests: Task, missing: Task) -> str:
        """Return a message that states what is requested and, for a server, the approximate number of tokens."""
        from probemap.grading.llm_budget import estimate_tokens

        n = len(missing.examples)
        text = f"requesting {requests.name} from {self.name}: {n} texts"
        if self.judge.budget is not None:
            n_tokens = sum(estimate_tokens(missing, example) for example in missing.examples)
            text = f"requesting {requests.name} from {self.name}: {n} requests, about {_rounded(n_tokens)} tokens"
        n_stored = len(requests.examples) - n
        return f"{text} ({n_stored} responses are stored)" if n_stored else text


def _rounded(n: int) -> int:
    """Return a number rounded to two significant digits."""
    return int(float(f"{n:.1e}"))


def run_judge(run: Run, options: JudgeOptions, context: Context) -> ModelJudge:
    """Return the language model that acts as judge.

    It is the model on the server given in the options or, by default, the model that generated the answers.
    """
    from probemap.grading.llm import endpoint_judge, model_judge

    log = context.logger.log
    if (server := options.server) is not None:
        judge = endpoint_judge(server, max_tokens=options.judge_budget, log=log)
    elif options.judge_budget is not None:
        raise RunError(
            "--judge-budget is given, but the judge is a local model, which has no costs per token",
            "add --endpoint, or omit --judge-budget",
        )
    else:
        engine = context.open_engine(run.loader(context.device, max_memory=context.max_memory))
        judge = model_judge(engine, log=log)
    return ModelJudge(run, judge, context.logger, run.read_judge_responses())


def judge_of(run: Run, context: Context = Context()) -> Callable[[Task, Sequence[Answer]], list[Judgement]]:
    """Return a function that judges other answers in the same way as the run's own answers.

    The function does not apply manual labels.  If a language model acts as judge, its responses are added to
    ``opinions.jsonl``.

    Raises
    ------
    RunError
        If the run's exact answers were located by `paper_locator`, and therefore depend on the verdicts.
    """
    run.refuse_paper_locator()
    options = run.record(JUDGE).options
    if options.judge == "rules" and options.locator != "model":
        locator = RULE_LOCATORS[options.rules_or_model]
        return lambda task, answers: judgements_of(task, answers, _rule_verdicts(task, answers), locator)
    model = run_judge(run, options, context)
    context.logger.log(f"requesting judgements for the samples from {model.name}; stored responses are reused")
    model = replace(model, logger=SILENT)

    def judge_samples(task: Task, answers: Sequence[Answer]) -> list[Judgement]:
        verdicts = model.verdicts(task, answers) if options.judge == "model" else _rule_verdicts(task, answers)
        by_model = options.locator == "model"
        locator = model.locator(task, answers) if by_model else RULE_LOCATORS[options.rules_or_model]
        return judgements_of(task, answers, verdicts, locator)

    return judge_samples


def _rule_verdicts(task: Task, answers: Sequence[Answer]) -> list[Verdict]:
    return [grade_answer(task, example, answer) for example, answer in zip(task.examples, answers, strict=True)]
