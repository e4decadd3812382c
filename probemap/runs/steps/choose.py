"""The choose step: for each question, select a sample with a probe that was not trained on that question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from probemap.logger import SILENT
from probemap.records import RunError
from probemap.runs.answer_file import RESTORE
from probemap.runs.checkpoint import Checkpoint
from probemap.runs.definitions import ANSWER
from probemap.runs.graded import graded_as_mapped
from probemap.runs.plan import Context, Plan
from probemap.runs.samples import each_question, note_on_verdicts, samples_per_question
from probemap.runs.study_files import study_inputs, write_table
from probemap.studies.best_of_n import ProbeScore, Question, compare_rules
from probemap.studies.error_types import classify

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from probemap.activations.store import ActivationStore
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import ChooseOptions
    from probemap.runs.run import Run

SampleScores = tuple[ProbeScore, ...]
"""The scores of all samples for one question."""


def plan(run: Run, options: ChooseOptions, context: Context) -> Plan[ChooseOptions]:
    """Plan the choose step, which writes ``choices.jsonl``, ``choose.json`` and ``choose.csv``.

    An interrupted step resumes with the questions that are not in ``choices.jsonl`` yet.

    Raises
    ------
    RunError
        If there are no samples, or if the answers, verdicts and states are inconsistent with each other.
    """
    graded = graded_as_mapped(run)
    options = replace(options, group_by=graded.group_by)
    store = run.states_of(graded)
    n_samples = samples_per_question(run)
    scorer = _SampleScorer(run, graded, store, options, context)
    return Plan(
        options=options,
        inputs=study_inputs(run, store),
        execute=partial(_execute, run, graded, scorer, n_samples, context),
    )


def _execute(run: Run, graded: GradedAnswers, scorer: _SampleScorer, n_samples: int, context: Context) -> bool:
    scores = scorer.scores(n_samples)
    questions = []
    silent = replace(context, logger=SILENT)
    for row, samples in enumerate(each_question(run, graded.task, context=silent)):
        sampled = samples.summary(graded.task)
        questions.append(
            Question(sampled, graded.correct[row], scores[samples.example.id], classify(sampled), graded.groups[row])
        )
    options = run.record(ANSWER).options
    is_greedy = not options.temperature and options.answers is None
    table = compare_rules(questions, own_label="greedy" if is_greedy else "own answer")
    write_table(run, "choose", table, note_on_verdicts(run, graded))
    return True


@dataclass(frozen=True)
class _SampleScorer:
    """Scores the samples of every question with a detector that was fitted without that question."""

    run: Run
    graded: GradedAnswers
    store: ActivationStore
    options: ChooseOptions
    context: Context

    def scores(self, n_samples: int) -> dict[str, SampleScores]:
        """Return a mapping from the id of each question to the scores of its samples."""
        import numpy as np

        from probemap.probing.folds import assign_folds, group_numbers

        checkpoint = Checkpoint[SampleScores](self.run, "choices.jsonl", "trust", SampleScores)
        results = checkpoint.results
        if wrong := [name for name, scores in results.items() if len(scores) != n_samples]:
            raise RunError(f"choices.jsonl does not contain scores for {n_samples} samples of {wrong[0]!r}", RESTORE)
        graded, options = self.graded, self.options
        total = len(graded.ids)
        if results:
            self.context.logger.log(f"{len(results)} of {total} questions already have scores")
        group = group_numbers(graded.groups, total)
        is_correct = np.array([correct is True for correct in graded.correct])
        fold_of_row = assign_folds(is_correct, group, options.folds, options.seed)
        for fold in range(options.folds):
            rows = [row for row in np.flatnonzero(fold_of_row == fold).tolist() if graded.ids[row] not in results]
            if not rows:
                continue
            training = [None if fold_of_row[row] == fold else correct for row, correct in enumerate(graded.correct)]
            for name, scores in self._held_out_scores(training, rows):
                checkpoint.add(name, scores)
                self.context.logger.progress("questions", len(results), total)
        return results

    def _held_out_scores(
        self, training: Sequence[bool | None], rows: Sequence[int]
    ) -> Iterator[tuple[str, SampleScores]]:
        """Fit a detector to the training labels, and yield the sample scores of each question in `rows`."""
        from probemap.detectors.fit import fit_detector
        from probemap.detectors.scorer import Scorer

        context = self.context
        detector = fit_detector(
            self.store,
            training,
            held_out=None,
            groups=self.graded.groups,
            c=self.options.c,
            false_alarms=(),  # without thresholds, no answers are held out for them
            risks=(),
            seed=self.options.seed,
            provenance=self.run.provenance,
            progress=lambda done, total: context.logger.progress("layers", done, total),
        )
        engine = context.open_engine(self.run.loader(context.device, max_memory=context.max_memory))
        scorer = Scorer(detector, engine, batch_size=self.options.batch_size)
        silent = replace(context, logger=SILENT)
        for samples in each_question(self.run, self.graded.task, rows, silent):
            locations = [(judgement.span, judgement.no_span) for judgement in samples.judgements]
            scores = scorer.score([samples.example] * len(samples.answers), samples.answers, locations)
            yield samples.example.id, tuple(ProbeScore(score.judged_by, score.score) for score in scores)
