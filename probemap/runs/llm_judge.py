"""Judge a run's answers and samples with rules, or with a language model whose responses are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from probemap.grading.locate import LOCATORS, LocatorFactory, locate_answer, paper_locator
from probemap.grading.rules import grade, grade_answer, possible_answers
from probemap.logger import SILENT, Logger
from probemap.records import Answer, Judgement, JudgeResponse, Task, Verdict
from probemap.runs.definitions import JUDGE
from probemap.runs.plan import Context

if TYPE_CHECKING:  # torch takes seconds to import, and the rules do not need it
    from probemap.grading.llm import LLMJudge
    from probemap.runs.options import JudgeOptions
    from probemap.runs.run import Run


def judgements_of(
    task: Task, answers: Sequence[Answer], verdicts: Sequence[Verdict], find: LocatorFactory, paper: bool = False
) -> list[Judgement]:
    """Locate the exact answers, and combine them with the verdicts into judgements.

    Parameters
    ----------
    find : LocatorFactory
        Function that takes the possible answers to a question and returns a locator.
    paper : bool
        Whether to use `paper_locator`, which depends on the verdict and falls back on the locator from `find`.
    """
    judgements = []
    for example, answer, verdict in zip(task.examples, answers, verdicts, strict=True):
        locator = find(possible_answers(task, example))
        if paper:
            locator = paper_locator(example, verdict.correct, locator)
        judgements.append(Judgement(answer.id, verdict, *locate_answer(task, example, answer, locator)))
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
    """The stored responses, to which new ones are appended."""

    @property
    def name(self) -> str:
        """Model name, followed by the revision or the server address."""
        return self.judge.name

    def verdicts(self, task: Task, answers: Sequence[Answer]) -> list[Verdict]:
        """Return the verdict on each answer.  Verdicts that were supplied with the answers take precedence."""
        from probemap.grading.llm import grading_task, parse_verdict

        pairs = [(e, a) for e, a in zip(task.examples, answers, strict=True) if a.verdict is None]
        responses = self._responses(grading_task([e for e, _ in pairs], [a for _, a in pairs]))
        return grade(task, answers, grader=lambda example, text: parse_verdict(responses[example.id]))

    def locator(self, task: Task, answers: Sequence[Answer]) -> LocatorFactory:
        """Let the model choose or copy the exact answers, and return a locator that finds them in the answers."""
        from probemap.grading.choosing import MIN_AGREEMENT, agreement
        from probemap.grading.llm import locating_task, response_locator
        from probemap.grading.open_answers import locate_open

        responses = self._responses(locating_task(self.judge, task.examples, answers))
        texts = [(e.question, a.final.text) for e, a in zip(task.examples, answers, strict=True)]
        find = response_locator(self.judge, {key: responses[a.id] for key, a in zip(texts, answers, strict=True)})
        if self.judge.chooses and task.kind == "open":
            locate = find([])
            chosen = [locate(question, text) for question, text in texts]
            n_same, n_both = agreement([locate_open(question, text) for question, text in texts], chosen)
            self.logger.log(f"the model and the rules locate the same exact answer in {n_same} of {n_both} answers")
            if n_same < MIN_AGREEMENT * n_both:
                self.logger.log(
                    f"that is below {MIN_AGREEMENT:.0%}, so many located parts are probably not the exact answer; "
                    "hint: --locator none leaves the columns of the exact answer out"
                )
        return find

    def _responses(self, requests: Task) -> dict[str, str]:
        """Return a mapping from ids to responses.  Only requests that have no stored response are sent to the model."""
        from probemap.grading.llm import new_responses, responses_by_id

        n_new = 0
        for batch in new_responses(self.judge, requests, self.responses):
            if not n_new:
                self.logger.log(f"requesting {requests.name} from {self.name}: {len(requests.examples)} texts in all")
            self.run.append_judge_responses(batch)
            self.responses.extend(batch)
            n_new += len(batch)
            self.logger.progress(requests.name, n_new, len(requests.examples))
        return responses_by_id(self.judge, requests, self.responses)


def run_judge(run: Run, options: JudgeOptions, context: Context) -> ModelJudge:
    """Return the language model that acts as judge.

    It is the model on the server given in the options or, by default, the model that generated the answers.
    """
    from probemap.grading.llm import endpoint_judge, model_judge

    log = context.logger.log
    if (server := options.server) is not None:
        judge = endpoint_judge(server, log=log)
    else:
        judge = model_judge(run.loader(context.device, max_memory=context.max_memory).load(context.models), log=log)
    return ModelJudge(run, judge, context.logger, run.read_judge_responses())


def judge_by_model(
    model: ModelJudge,
    task: Task,
    answers: Sequence[Answer],
    *,
    verdicts: bool,
    find: LocatorFactory | None,
    paper: bool = False,
) -> list[Judgement]:
    """Judge answers with a language model that determines the verdicts, the exact answers, or both.

    Parameters
    ----------
    verdicts : bool
        Whether the model determines the verdicts.  If False, the rules do.
    find : LocatorFactory or None
        Function that takes the possible answers to a question and returns a locator.  If None, the model locates the
        exact answers.
    paper : bool
        Whether to use `paper_locator`; see `judgements_of`.
    """
    judged = model.verdicts(task, answers) if verdicts else grade(task, answers)
    return judgements_of(task, answers, judged, find or model.locator(task, answers), paper)


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
    find = None if options.locator == "model" else LOCATORS[options.locator]
    if find is not None and options.judge == "rules":
        return lambda task, answers: judgements_of(task, answers, _rule_verdicts(task, answers), find)
    model = run_judge(run, options, context)
    context.logger.log(f"requesting judgements for the samples from {model.name}; stored responses are reused")
    model = replace(model, logger=SILENT)

    def judge_samples(task: Task, answers: Sequence[Answer]) -> list[Judgement]:
        verdicts = model.verdicts(task, answers) if options.judge == "model" else _rule_verdicts(task, answers)
        return judgements_of(task, answers, verdicts, find or model.locator(task, answers))

    return judge_samples


def _rule_verdicts(task: Task, answers: Sequence[Answer]) -> list[Verdict]:
    return [grade_answer(task, example, answer) for example, answer in zip(task.examples, answers, strict=True)]
