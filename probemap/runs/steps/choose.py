"""The choose step: one of several answers, picked by a probe that has not seen the question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probemap.logger import SILENT, Logger
from probemap.models.loading import Models
from probemap.records import Answer, Judgement, RunError, Task
from probemap.runs.answer_file import MEND
from probemap.runs.checkpoint import Checkpoint
from probemap.runs.integrity import loader_of, question_groups, read_answers, states_of
from probemap.runs.options import Studying
from probemap.runs.run import Run
from probemap.runs.steps.export import run_provenance
from probemap.runs.steps.resample import each_question, judged_otherwise, samples_per_question
from probemap.runs.steps.studies import sampled_of, study_inputs, write_table
from probemap.studies.best_of_n import ProbeScore, Question, compare_rules
from probemap.studies.error_types import classify
from probemap.tables import Table

if TYPE_CHECKING:  # torch loads in seconds; only the steps that need it pay
    from probemap.activations.store import ActivationStore

_Scores = tuple[ProbeScore, ...]
"""Of each sample of a question."""


def choose(
    run: Run,
    options: Studying = Studying(),
    *,
    redo: bool = False,
    logger: Logger = SILENT,
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
        store = states_of(run, answers, judgements)
        k = samples_per_question(run)
        inputs = study_inputs(run, store)
        with run.making("choose", options=options.recorded, inputs=inputs, redo=redo, log=logger.log) as needed:
            if needed:
                models = {} if models is None else models
                trust = _Job(run, task, answers, judgements, store, options, logger, models).trust(k)
                groups = question_groups(task)
                questions = []
                for row, (example, said, judged) in enumerate(each_question(run, task, models=models)):
                    one, own = sampled_of(task, example, said, judged), judgements[row].verdict.correct
                    questions.append(Question(one, own, trust[example.id], classify(one), groups[row]))
                warm = run.step("answer")["options"].get("temperature") or run.step("answer")["options"].get("answers")
                made = compare_rules(questions, own_label="own answer" if warm else "greedy")
                write_table(run, "choose", made, judged_otherwise(run, task, answers, judgements))
        return run.table("choose")


@dataclass(frozen=True)
class _Job:
    run: Run
    task: Task
    answers: Sequence[Answer]
    judgements: list[Judgement]
    store: "ActivationStore"
    options: Studying
    logger: Logger
    models: Models

    def trust(self, k: int) -> dict[str, _Scores]:
        """Question id -> what a probe fitted without this question makes of each of its `k` samples."""
        import numpy as np

        from probemap.probing.folds import assign_folds, group_numbers

        known = Checkpoint[_Scores](self.run, "choices.jsonl", "trust", _Scores)
        if wrong := [name for name, trust in known.found.items() if len(trust) != k]:
            raise RunError(f"choices.jsonl does not hold {k} samples of {wrong[0]!r}", MEND)
        total = len(self.task.examples)
        if known.found:
            self.logger.log(f"{len(known.found)} of {total} questions are there already")
        correct = [j.verdict.correct for j in self.judgements]
        group = group_numbers(question_groups(self.task), len(self.answers))
        part = assign_folds(np.array([one is True for one in correct]), group, self.options.folds, self.options.seed)
        for number in range(self.options.folds):
            rows = [i for i in np.flatnonzero(part == number).tolist() if self.task.examples[i].id not in known.found]
            if rows:
                training = [None if part[i] == number else one for i, one in enumerate(correct)]
                for id_, trust in self._without(training, rows):
                    known.add(id_, trust)
                    self.logger.progress("questions", len(known.found), total)
        return known.found

    def _without(self, training: Sequence[bool | None], rows: Sequence[int]) -> Iterator[tuple[str, _Scores]]:
        """Of some questions, by a detector of the others."""
        from probemap.detectors.fit import fit_detector
        from probemap.detectors.scorer import Scorer

        detector = fit_detector(
            self.store,
            training,
            held_out=None,
            groups=question_groups(self.task),
            c=self.options.c,
            seed=self.options.seed,
            provenance=run_provenance(self.run),
            progress=lambda done, total: self.logger.progress("layers", done, total),
        )
        scorer = Scorer(detector, loader_of(self.run).load(self.models), batch_size=self.options.batch_size)
        for example, said, judged in each_question(self.run, self.task, rows, models=self.models):
            scores = scorer.score([example] * len(said), said, [(j.span, j.no_span) for j in judged])
            yield example.id, tuple(ProbeScore(one.judged_by, one.score) for one in scores)
