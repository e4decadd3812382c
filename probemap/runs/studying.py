"""The steps that ask more of a run than where it knows: which errors, which answer to take, and what needs no probe."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from probemap.models.answers import MEND
from probemap.models.loading import Models
from probemap.options import SILENT, Studying, Talk
from probemap.records import Answer, Example, Judgement, RunError, Task
from probemap.runs.contents import (
    answers_of,
    loader_of,
    question_groups,
    read_answers,
    read_p_true,
    read_p_true_exact,
    read_scores,
    states_of,
)
from probemap.runs.exporting import origin_of
from probemap.runs.pipeline import ask_p_true
from probemap.runs.resampling import each_question, samples_per_question
from probemap.runs.run import Run
from probemap.studies.choice import Question, Trust, compare
from probemap.studies.kinds import Sampled, kinds_of
from probemap.studies.meaning import entropy, meanings
from probemap.studies.tables import Table

if TYPE_CHECKING:  # torch loads in seconds; only the steps that need it pay
    from probemap.studies.ranking import Plain

_TRUST: TypeAdapter[list[Trust]] = TypeAdapter(list[Trust])


def errors(
    run: Run,
    options: Studying = Studying(),
    *,
    redo: bool = False,
    talk: Talk = SILENT,
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
        with run.making("errors", options=options.recorded, inputs=_inputs(run), redo=redo, tell=talk.tell) as needed:
            if needed:
                from probemap.probes.baselines import baselines
                from probemap.studies.errors import study

                models = {} if models is None else models
                sampled = [_sampled(task, *one) for one in each_question(run, task, talk=talk, models=models)]
                kinds = [kinds_of(one) for one in sampled]
                made = study(
                    store,
                    kinds,
                    sampled,
                    [j.verdict.correct for j in judgements],
                    baselines(task, answers, judgements),
                    question_groups(task),
                    folds=options.folds,
                    c=options.c,
                    seed=options.seed,
                    progress=lambda done, total: talk.progress("kinds of errors", done, total),
                )
                rows = zip(sampled, kinds, strict=True)
                run.write(
                    "kinds.jsonl", "".join(json.dumps(_kind_row(*row), ensure_ascii=False) + "\n" for row in rows)
                )
                _write(run, "errors", made)
        return run.table("errors")


def choose(
    run: Run,
    options: Studying = Studying(),
    *,
    redo: bool = False,
    talk: Talk = SILENT,
    models: Models | None = None,
) -> Table:
    """Pick one of the samples of every question, by a probe that has not seen the question, and by other rules; writes
    ``choices.jsonl``, ``choose.json`` and ``choose.csv``.

    What was interrupted goes on with the questions that have no line in ``choices.jsonl``.

    Raises
    ------
    RunError: there are no samples, or something was made before something else changed.
    """
    with run.locked():
        task, answers, judgements = read_answers(run)
        states_of(run, answers, judgements)
        k = samples_per_question(run)
        with run.making("choose", options=options.recorded, inputs=_inputs(run), redo=redo, tell=talk.tell) as needed:
            if needed:
                models = {} if models is None else models
                trust = _trust(run, task, answers, judgements, options, k, talk, models)
                groups = question_groups(task)
                questions = []
                for row, (example, said, judged) in enumerate(each_question(run, task, talk=talk, models=models)):
                    one = _sampled(task, example, said, judged)
                    own = judgements[row].verdict.correct
                    questions.append(Question(one, own, trust[example.id], kinds_of(one), groups[row]))
                _write(run, "choose", compare(questions))
        return run.table("choose")


def baselines(
    run: Run,
    *,
    redo: bool = False,
    talk: Talk = SILENT,
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
    for exact in (False, True):
        ask_p_true(run, exact=exact, talk=talk, models=models)
    with run.locked():
        task, answers, judgements = read_answers(run)
        probe_map = read_scores(run)
        sampled = run.is_done("resample")
        inputs = {name: run.sha256(name) for name in ("map.nc", "p_true.jsonl", "p_true_exact.jsonl")}
        inputs |= {"resamples.jsonl": run.sha256("resamples.jsonl")} if sampled else {}
        with run.making("baselines", options={"sampled": sampled}, inputs=inputs, redo=redo, tell=talk.tell) as needed:
            if needed:
                from probemap.studies.ranking import Plain, map_rows, rank

                plain = _plain(run, task, answers, judgements)
                if sampled:
                    plain |= _semantic(run, task, answers, judgements, talk, models)
                else:
                    talk.tell("semantic entropy is left out: `probemap resample` draws the samples that it needs")
                rows = map_rows(probe_map, [a.id for a in answers])
                _write(
                    run, "baselines", rank(probe_map, {n: Plain(p.meaning, p.values[rows]) for n, p in plain.items()})
                )
        return run.table("baselines")


def _sampled(task: Task, example: Example, answers: Sequence[Answer], judgements: Sequence[Judgement]) -> Sampled:
    meaning, refuses = meanings(task, example, answers, judgements)
    return Sampled(example.id, tuple(j.verdict.correct for j in judgements), tuple(meaning), tuple(refuses))


def _kind_row(sampled: Sampled, kinds: str) -> dict[str, str | int]:
    return {
        "id": sampled.id,
        "kinds": kinds,
        "samples": len(sampled.correct),
        "right": sampled.right,
        "same_wrong": sampled.same_wrong,
        "refuses": sum(sampled.refuses),
        "different": sampled.different,
    }


def _inputs(run: Run) -> dict[str, str]:
    return {name: run.sha256(name) for name in ("task.json", "verdicts.jsonl", "resamples.jsonl")}


def _write(run: Run, study: str, table: Table) -> None:
    run.write(f"{study}.csv", table.to_csv())
    run.write(f"{study}.json", table.to_json())


def _trust(
    run: Run,
    task: Task,
    answers: Sequence[Answer],
    judgements: list[Judgement],
    options: Studying,
    k: int,
    talk: Talk,
    models: Models,
) -> dict[str, tuple[Trust, ...]]:
    """Question id -> what a probe fitted without this question makes of each of its samples."""
    import numpy as np

    from probemap.probes.splits import assign_folds, group_numbers

    known = dict(_read_trust(run.path / "choices.jsonl", k))
    if known:
        talk.tell(f"{len(known)} of {len(task.examples)} questions are there already")
    correct = [j.verdict.correct for j in judgements]
    group = group_numbers(question_groups(task), len(answers))
    part = assign_folds(np.array([one is True for one in correct]), group, options.folds, options.seed)
    for number in range(options.folds):
        rows = [i for i in np.flatnonzero(part == number).tolist() if task.examples[i].id not in known]
        if not rows:
            continue
        training = [None if part[i] == number else one for i, one in enumerate(correct)]
        for id_, trust in _judged_without(run, task, answers, judgements, training, rows, options, talk, models):
            run.append("choices.jsonl", json.dumps({"id": id_, "trust": _TRUST.dump_python(list(trust))}) + "\n")
            known[id_] = trust
            talk.progress("questions", len(known), len(task.examples))
    return known


def _judged_without(
    run: Run,
    task: Task,
    answers: Sequence[Answer],
    judgements: list[Judgement],
    training: Sequence[bool | None],
    rows: Sequence[int],
    options: Studying,
    talk: Talk,
    models: Models,
) -> Iterator[tuple[str, tuple[Trust, ...]]]:
    """Of some questions, by a detector of the others."""
    from probemap.detectors.detecting import fit_detector
    from probemap.detectors.scoring import Scorer

    store = states_of(run, answers, judgements)
    detector = fit_detector(
        store,
        training,
        held_out=None,
        groups=question_groups(task),
        c=options.c,
        seed=options.seed,
        origin=origin_of(run, task, store.layout.site),
        progress=lambda done, total: talk.progress("layers", done, total),
    )
    scorer = Scorer(detector, loader_of(run).load(models), batch_size=options.batch_size)
    for example, said, judged in each_question(run, task, rows, talk=talk, models=models):
        scores = scorer.score([example] * len(said), said, [(j.span, j.no_span) for j in judged])
        yield example.id, tuple(Trust(one.judged_by, one.score) for one in scores)


def _read_trust(path: Path, k: int) -> Iterator[tuple[str, tuple[Trust, ...]]]:
    """The lines of ``choices.jsonl``; a torn last one does not count, and is cut off."""
    if not path.exists():
        return
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            trust = tuple(_TRUST.validate_python(row["trust"]))
            if len(trust) != k:
                raise ValueError(f"{len(trust)} samples, expected {k}")
            yield str(row["id"]), trust
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            what = str(error).splitlines()[0]
            raise RunError(f"{path}, line {number} is damaged: {what}", MEND) from None


def _plain(run: Run, task: Task, answers: Sequence[Answer], judgements: list[Judgement]) -> "dict[str, Plain]":
    """The baselines that are numbers and need no training."""
    import numpy as np

    from probemap.probes.baselines import baselines as known
    from probemap.studies.ranking import Plain

    p_true = read_p_true(run, answers_of(run, task))
    assert p_true is not None
    made = {
        one.name: Plain(one.meaning, one.values)
        for one in known(task, answers, judgements, np.array(p_true))
        if "logprob" in one.name or one.name == "p_true"
        if not isinstance(one.values, list)
    }
    exact = np.array(read_p_true_exact(run, answers))
    return made | {"p_true_exact": Plain("p(True) of the exact answer alone", exact)}


def _semantic(
    run: Run, task: Task, answers: Sequence[Answer], judgements: list[Judgement], talk: Talk, models: Models
) -> "dict[str, Plain]":
    import numpy as np

    from probemap.studies.ranking import Plain

    entropies, agreement = [], []
    for own, judged, (example, said, theirs) in zip(
        answers, judgements, each_question(run, task, talk=talk, models=models), strict=True
    ):
        meaning, _ = meanings(task, example, [own, *said], [judged, *theirs])
        entropies.append(-entropy(meaning[1:]))
        agreement.append(meaning[1:].count(meaning[0]) / len(said))
    return {
        "semantic_entropy": Plain("semantic entropy of the samples, negated", np.array(entropies)),
        "agreement": Plain("share of the samples that mean what the answer means", np.array(agreement)),
    }
