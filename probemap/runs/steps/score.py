"""Score a run's answers with a detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import
    from probemap.detectors.scorer import Scorer
    from probemap.detectors.scores import Score
    from probemap.runs.run import Run


def score_run(run: Run, scorer: Scorer) -> Iterator[Score]:
    """Score a run's answers from their token ids, one chunk at a time.

    Parameters
    ----------
    run : Run
        A run directory with answers.
    scorer : Scorer
        The detector, and the model that computes the hidden states.

    Yields
    ------
    Score
        The score of each answer, in the same order as the answers.

    Raises
    ------
    RunError
        If the run has no answers.
    ModelError
        If a single answer does not fit in memory.
    """
    from probemap.detectors.scorer import CHUNK_ROWS

    task, answers = run.task, run.answers
    for start in range(0, len(answers), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        yield from scorer.score(task.examples[rows], answers[rows])
