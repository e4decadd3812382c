"""The steps that ask more of a run than where it knows: which errors there are, and what needs no probe."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probemap.grading.rules import REFUSAL
from probemap.logger import SILENT, Logger
from probemap.models.loading import Models
from probemap.records import Answer, Example, Judgement, Task
from probemap.runs.checkpoint import Checkpoint
from probemap.runs.integrity import (
    answers_of,
    question_groups,
    read_answers,
    read_p_true,
    read_p_true_exact,
    read_scores,
    refuse_paper_locator,
    states_of,
)
from probemap.runs.options import Studying
from probemap.runs.run import Run
from probemap.runs.steps.p_true import ask_p_true
from probemap.runs.steps.resample import each_question, judged_otherwise, samples_per_question
from probemap.studies.error_types import SampledQuestion, classify
from probemap.studies.semantics import meanings, semantic_entropy
from probemap.tables import Table

if TYPE_CHECKING:  # torch loads in seconds; only the steps that need it pay
    from probemap.activations.store import ActivationStore
    from probemap.studies.ranking import Predictor


def errors(
    run: Run,
    options: Studying = Studying(),
    *,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> Table:
    """Which kinds of errors the questions bring out, and where it can be read; writes ``errors.json``, ``errors.csv``
    and ``kinds.jsonl``.

    Raises
    ------
    RunError: there are no samples, or something was made before something else changed.
    """
    with run.locked():
        task, answers, judgements = read_answers(run)
        store = states_of(run, answers, judgements)
        samples_per_question(run)
        with run.making(
            "errors", options=options.recorded, inputs=study_inputs(run, store), redo=redo, log=logger.log
        ) as needed:
            if needed:
                from probemap.probing.baselines import baselines
                from probemap.studies.errors import ErrorTypeProbe, ProbeOptions, predict_error_types

                models = {} if models is None else models
                sampled = [sampled_of(task, *one) for one in each_question(run, task, logger=logger, models=models)]
                types = [classify(question) for question in sampled]
                made = predict_error_types(
                    store,
                    types,
                    sampled,
                    [j.verdict.correct for j in judgements],
                    baselines=baselines(task, answers, judgements),
                    groups=question_groups(task),
                    options=ProbeOptions(folds=options.folds, c=options.c, seed=options.seed),
                    progress=lambda done, total: logger.progress("error types", done, total),
                    checkpoint=Checkpoint[ErrorTypeProbe](run, "errors.jsonl", "found", ErrorTypeProbe).once,
                )
                rows = zip(sampled, types, strict=True)
                run.write(
                    "kinds.jsonl", "".join(json.dumps(_kind_row(*row), ensure_ascii=False) + "\n" for row in rows)
                )
                write_table(run, "errors", made, judged_otherwise(run, task, answers, judgements))
        return run.table("errors")


def baselines(
    run: Run,
    *,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> Table:
    """All that tells right from wrong answers, on the same answers, in one order; writes ``baselines.json`` and
    ``baselines.csv``.

    p(True), of answers and of exact answers, is asked for if it was not; semantic entropy needs samples.

    Raises
    ------
    RunError: there is no map, or it was made before something else changed.
    """
    models = {} if models is None else models
    refuse_paper_locator(run)
    read_scores(run)  # hours of asking are for nothing without it
    located = any(j.span for j in run.judgements())
    for exact in (False, True)[: 1 + located]:
        ask_p_true(run, exact=exact, logger=logger, models=models)
    with run.locked():
        task, answers, judgements = read_answers(run)
        probe_map = read_scores(run)
        sampled = run.is_done("resample")
        files = ("map.nc", "p_true.jsonl", "p_true_exact.jsonl")[: 2 + located]
        inputs = {name: run.sha256(name) for name in files}
        inputs |= {"resamples.jsonl": run.sha256("resamples.jsonl")} if sampled else {}
        with run.making("baselines", options={"sampled": sampled}, inputs=inputs, redo=redo, log=logger.log) as needed:
            if needed:
                from probemap.studies.ranking import Predictor, rank_predictors, rows_of_map

                plain = _plain(run, task, answers, judgements)
                if sampled:
                    plain |= _semantic(run, task, answers, judgements, logger, models)
                else:
                    logger.log("semantic entropy is left out: `probemap resample` draws the samples that it needs")
                rows = rows_of_map(probe_map, [a.id for a in answers])
                mine = {name: Predictor(one.meaning, one.values[rows]) for name, one in plain.items()}
                write_table(run, "baselines", rank_predictors(probe_map, mine))
        return run.table("baselines")


def sampled_of(
    task: Task, example: Example, answers: Sequence[Answer], judgements: Sequence[Judgement]
) -> SampledQuestion:
    """Return the sampled answers to one question, graded and grouped by meaning."""
    meaning, contents = meanings(task, example, answers, judgements)
    verdicts = [j.verdict for j in judgements]
    # The grader decides what a refusal is; the meaning is used only where the grader does not decide.
    contents = [
        "refusal" if verdict == REFUSAL else "answer" if verdict.correct is not None else content
        for verdict, content in zip(verdicts, contents, strict=True)
    ]
    return SampledQuestion(example.id, tuple(v.correct for v in verdicts), tuple(meaning), tuple(contents))


def _kind_row(sampled: SampledQuestion, types: str) -> dict[str, str | int]:
    return {
        "id": sampled.id,
        "kinds": types,
        "samples": len(sampled.verdicts),
        "right": sampled.n_correct,
        "same_wrong": sampled.n_same_incorrect,
        "refuses": sampled.n_refused,
        "different": sampled.n_distinct,
    }


def study_inputs(run: Run, store: "ActivationStore") -> dict[str, str]:
    """What the steps are made from that fit probes to states and look at samples, as hashes."""
    files = ("task.json", "verdicts.jsonl", "resamples.jsonl")
    return {name: run.sha256(name) for name in files} | {"activations": store.content_hash()}


def write_table(run: Run, study: str, table: Table, *words: str) -> None:
    """Write ``STUDY.csv`` and ``STUDY.json``, with more words if there are any."""
    table = replace(table, words=(*table.words, *filter(None, words)))
    run.write(f"{study}.csv", table.to_csv())
    run.write(f"{study}.json", table.to_json())


def _plain(run: Run, task: Task, answers: Sequence[Answer], judgements: list[Judgement]) -> "dict[str, Predictor]":
    """The baselines that are numbers and need no training."""
    import numpy as np

    from probemap.probing.baselines import baselines as known
    from probemap.studies.ranking import Predictor

    p_true = read_p_true(run, answers_of(run, task))
    assert p_true is not None
    made = {
        one.name: Predictor(one.meaning, one.values)
        for one in known(task, answers, judgements, np.array(p_true))
        if "logprob" in one.name or one.name == "p_true"
        if not isinstance(one.values, list)
    }
    if all(j.span is None for j in judgements):
        return made
    exact = np.array(read_p_true_exact(run, answers))
    return made | {"p_true_exact": Predictor("p(True) of the exact answer alone", exact)}


def _semantic(
    run: Run, task: Task, answers: Sequence[Answer], judgements: list[Judgement], logger: Logger, models: Models
) -> "dict[str, Predictor]":
    import numpy as np

    from probemap.studies.ranking import Predictor

    entropies, agreement = [], []
    for own, judged, (example, said, theirs) in zip(
        answers, judgements, each_question(run, task, logger=logger, models=models), strict=True
    ):
        meaning, _ = meanings(task, example, [own, *said], [judged, *theirs])
        entropies.append(-semantic_entropy(meaning[1:]))
        agreement.append(meaning[1:].count(meaning[0]) / len(said))
    return {
        "semantic_entropy": Predictor("semantic entropy of the samples, negated", np.array(entropies)),
        "agreement": Predictor("share of the samples that mean what the answer means", np.array(agreement)),
    }
