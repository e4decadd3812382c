"""The judge step on a run folder: verdicts and exact answers, by rules, by a model that is asked, or by hand."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probemap.grading.locate import LOCATORS, LocatorFactory, find_words, locate_answer, paper_locator, token_span
from probemap.grading.rules import grade, grade_answer, possible_answers
from probemap.logger import SILENT, Logger
from probemap.models.loading import Endpoint, Loader, Models
from probemap.records import Answer, DataError, Judgement, JudgeResponse, RunError, Span, Task, Verdict
from probemap.runs.integrity import answer_inputs, answers_of, loader_of, refuse_paper_locator
from probemap.runs.options import Judging
from probemap.runs.run import Run
from probemap.tasks.supplied import ManualLabel, read_manual_labels

if TYPE_CHECKING:  # torch and transformers load in seconds; the rules do not need them
    from probemap.grading.llm import LLMJudge


def judge(
    run: Run,
    options: Judging = Judging(),
    *,
    loader: Loader | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> None:
    """Verdicts and exact answers; writes ``verdicts.jsonl``.

    Where a model is asked, what it says is kept in ``opinions.jsonl`` and not asked for again; where it differs from
    the rules, ``disagreements.jsonl`` shows both, for a person to decide and to judge again from that file.

    Parameters
    ----------
    loader: of the model to ask, where no server is named; None is the one that answered.

    Raises
    ------
    DataError, ModelError, RunError
    """
    with run.locked():
        task = run.task()
        ordinary = "model" if task.kind == "open" else task.kind
        locator = ordinary if options.locator == "auto" else options.locator
        copied = (ordinary if locator == "paper" else locator) == "model"
        if options.endpoint is not None and not copied and options.judge == "rules":
            raise RunError("a server is named, but rules judge and locate", "add --judge model or --locator model")
        decisions: dict[str, ManualLabel] = {}
        digest = None
        if options.decided is not None:
            decisions = read_manual_labels(Path(options.decided), task)
            digest = hashlib.sha256(Path(options.decided).read_bytes()).hexdigest()
            for said in answers_of(run, task):  # what does not fit is refused before anything is set aside
                if said.id in decisions:
                    _span(said, decisions[said.id].exact_answer or "")
        with run.making(
            "judge",
            options={
                "locator": locator,
                "judge": options.judge,
                "endpoint": options.endpoint and options.endpoint.url,
                "served": options.endpoint and options.endpoint.served,
                "decided": digest,
            },
            inputs=answer_inputs(run),
            redo=redo,
            log=logger.log,
        ) as needed:
            if not needed:
                return
            answers = list(answers_of(run, task))
            verdicts = [a.verdict or grade_answer(task, e, a) for e, a in zip(task.examples, answers, strict=True)]
            paper = locator == "paper"
            find = None if copied else LOCATORS[ordinary if paper else locator]
            if find is not None and options.judge == "rules":
                judgements = _judgements(task, answers, verdicts, find, paper)
            else:
                assessor = _assessor(run, options, loader, models, logger)
                asked = _Asked(run, task, answers, assessor, logger, run.opinions())
                judgements = asked.judgements(verdicts, find, options.judge == "model", paper, decisions)
            judgements = _decided(answers, judgements, decisions)
            run.write_judgements(judgements)
            if all(j.span is None for j in judgements):
                logger.log(
                    f"no exact answer was found in any of {len(judgements)} answers: the map will have no "
                    "exact_answer columns\nhint: try --locator model, or look at answers with `probemap inspect`"
                )


def judge_of(
    run: Run, *, logger: Logger = SILENT, models: Models | None = None
) -> Callable[[Task, Sequence[Answer]], list[Judgement]]:
    """What judges and locates other answers, one for each example of a task, as the run's own were.

    What a person has decided of the run's answers does not count there.  Where a model is asked, its opinions are kept
    with the others.

    Raises
    ------
    RunError: the run's exact answers were located by the paper's locator.
    """
    refuse_paper_locator(run)
    made = run.step("judge")["options"]
    find = None if made["locator"] == "model" else LOCATORS[made["locator"]]
    by_model = made.get("judge") == "model"

    def rules(task: Task, answers: Sequence[Answer]) -> list[Verdict]:
        return [grade_answer(task, e, a) for e, a in zip(task.examples, answers, strict=True)]

    if find is not None and not by_model:
        return lambda task, answers: _judgements(task, answers, rules(task, answers), find)
    server = Endpoint(made["endpoint"], made["served"] or "") if made.get("endpoint") else None
    options = Judging(made["locator"], made.get("judge", "rules"), server)
    assessor, known = _assessor(run, options, None, models, logger), run.opinions()
    logger.log(f"{assessor.name} is asked about the samples, as far as it was not before")

    def judged(task: Task, answers: Sequence[Answer]) -> list[Judgement]:
        asked = _Asked(run, task, answers, assessor, SILENT, known)
        verdicts = asked.verdicts() if by_model else rules(task, answers)
        return _judgements(task, answers, verdicts, find or asked.locator())

    return judged


def _judgements(
    task: Task, answers: Sequence[Answer], verdicts: Sequence[Verdict], find: LocatorFactory, paper: bool = False
) -> list[Judgement]:
    made = []
    for example, said, verdict in zip(task.examples, answers, verdicts, strict=True):
        locator = find(possible_answers(task, example))
        locator = paper_locator(example, verdict.correct, locator) if paper else locator
        made.append(Judgement(said.id, verdict, *locate_answer(task, example, said, locator)))
    return made


def _assessor(run: Run, options: Judging, loader: Loader | None, models: Models | None, logger: Logger) -> "LLMJudge":
    from probemap.grading.llm import endpoint_judge, model_judge

    if options.endpoint is not None:
        return endpoint_judge(options.endpoint, log=logger.log)
    model = (loader or loader_of(run)).load({} if models is None else models)
    return model_judge(model, log=logger.log)


@dataclass(frozen=True)
class _Asked:
    """A model that is asked about the answers of a run."""

    run: Run
    task: Task
    answers: Sequence[Answer]
    assessor: "LLMJudge"
    logger: Logger
    known: list[JudgeResponse]
    """What it has said so far; what it says now is added."""

    def judgements(
        self,
        verdicts: list[Verdict],
        find: LocatorFactory | None,
        judges: bool,
        paper: bool,
        decisions: Mapping[str, ManualLabel],
    ) -> list[Judgement]:
        """What the model says, and the rules where it is not asked; writes and tells where the two differ.

        Parameters
        ----------
        verdicts: by the rules.
        find: None: the model locates.
        judges: the model judges.
        decisions: what a person has decided, which the file of disagreements goes on to say.
        """
        rules = _judgements(
            self.task, self.answers, verdicts, LOCATORS["none" if self.task.kind == "open" else self.task.kind]
        )
        made = _judgements(
            self.task, self.answers, self.verdicts() if judges else verdicts, find or self.locator(), paper
        )
        now = _decided(self.answers, made, decisions)
        differ = _disagreements(self.task, self.answers, rules, made, now, judges, find is None)
        self.run.write("disagreements.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in differ))
        _tell_agreement(self.run, self.assessor.name, rules, made, judges, len(differ), self.logger)
        return made

    def verdicts(self) -> list[Verdict]:
        from probemap.grading.llm import grading_task, parse_verdict

        # A verdict that came with the answer is somebody's own.
        pairs = [(e, a) for e, a in zip(self.task.examples, self.answers, strict=True) if a.verdict is None]
        said = self._replies(grading_task([e for e, _ in pairs], [a for _, a in pairs]))
        return grade(self.task, self.answers, grader=lambda example, text: parse_verdict(said[example.id]))

    def locator(self) -> LocatorFactory:
        from probemap.grading.llm import extract_locator, extraction_task

        said = self._replies(extraction_task(self.task.examples, self.answers))
        pairs = zip(self.task.examples, self.answers, strict=True)
        return extract_locator({(e.question, a.final.text): said[a.id] for e, a in pairs})

    def _replies(self, asked: Task) -> dict[str, str]:
        """Id -> what the model says; opinions that the folder holds are not asked for again."""
        from probemap.grading.llm import new_responses, responses_by_id

        new = 0
        for batch in new_responses(self.assessor, asked, self.known):
            if not new:
                self.logger.log(f"{self.assessor.name} is asked for {asked.name}, {len(asked.examples)} texts in all")
            self.run.append_opinions(batch)
            self.known.extend(batch)
            new += len(batch)
            self.logger.progress(asked.name, new, len(asked.examples))
        return responses_by_id(self.assessor, asked, self.known)


def _disagreements(
    task: Task,
    answers: Sequence[Answer],
    rules: Sequence[Judgement],
    model: Sequence[Judgement],
    now: Sequence[Judgement],
    verdicts: bool,
    places: bool,
) -> list[dict[str, Any]]:
    """Where rules and model differ, each as a row in which a person may decide."""

    def opinion(made: Judgement) -> dict[str, Any]:
        return {**_decision(made), "reason": made.verdict.reason}

    places = places and task.kind != "open"  # for open questions the rules name no place
    return [
        {
            "id": said.id,
            "question": example.question,
            "accepted": list(example.answers),
            "answer": said.final.text,
            "rules": opinion(by_rules),
            "model": opinion(by_model),
            **_decision(holds),
        }
        for example, said, by_rules, by_model, holds in zip(task.examples, answers, rules, model, now, strict=True)
        if (verdicts and by_rules.verdict.correct != by_model.verdict.correct)
        or (places and _place(by_rules) != _place(by_model))
    ]


def _decision(made: Judgement) -> dict[str, Any]:
    return {"correct": made.verdict.correct, "exact_answer": made.span.text if made.span else None}


def _place(made: Judgement) -> tuple[int, int] | None:
    return (made.span.start, made.span.stop) if made.span else None


def _tell_agreement(
    run: Run,
    who: str,
    rules: Sequence[Judgement],
    model: Sequence[Judgement],
    verdicts: bool,
    differ: int,
    logger: Logger,
) -> None:
    if verdicts:
        pairs = [(str(a.verdict.correct), str(b.verdict.correct)) for a, b in zip(rules, model, strict=True)]
        same = sum(a == b for a, b in pairs)
        kappa = _kappa(pairs)
        run.note("judge", {"who": who, "same_verdicts": same, "kappa": kappa})
        beyond = "" if kappa is None else f", Cohen's kappa {kappa:.2f}"
        logger.log(f"{who} and the rules give the same verdict on {same} of {len(pairs)} answers{beyond}")
    if differ:
        file = run.path / "disagreements.jsonl"
        logger.log(
            f"they differ on {differ} answers, see {file}\nhint: decide there (`correct`, `exact_answer`), then run "
            f"the same command with --decided {file} --redo"
        )


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance (Cohen 1960); None where one verdict is all there is."""
    from sklearn.metrics import cohen_kappa_score

    if len({verdict for pair in pairs for verdict in pair}) < 2:
        return None
    one, other = zip(*pairs, strict=True)
    return float(cohen_kappa_score(one, other))


def _decided(
    answers: Sequence[Answer], made: Sequence[Judgement], decisions: Mapping[str, ManualLabel]
) -> list[Judgement]:
    pairs = zip(answers, made, strict=True)
    return [_decide(a, j, decisions[a.id]) if a.id in decisions else j for a, j in pairs]


def _decide(answer: Answer, made: Judgement, decision: ManualLabel) -> Judgement:
    """The judgement with what a person decided.

    Raises
    ------
    DataError: the exact answer does not stand in the answer.
    """
    span, why = made.span, made.no_span
    if decision.exact_answer is not None and decision.exact_answer != (made.span.text if made.span else ""):
        span, why = _span(answer, decision.exact_answer), "" if decision.exact_answer else "none, as decided"
    return Judgement(made.id, decision.verdict, span, why)


def _span(answer: Answer, words: str) -> Span | None:
    if not words:
        return None
    final = answer.final
    place = find_words(final.text, words)
    if place is None:
        raise DataError(
            f"the exact answer {words[:60]!r} does not stand in the answer of {answer.id!r}",
            "copy it as it stands there, or write null",
        )
    return token_span(final, *place)
