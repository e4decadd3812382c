"""What tells right answers from wrong ones without hidden states: how sure the model was, lengths, and words.

A map says something about the states only above these.  Log-probabilities over the whole and over the exact answer,
and p(True), are what Orgad et al. 2024 (arXiv 2410.02707) compare their probes with; words show what the choice of
questions and answers gives away by itself.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.mentions import fold as fold_text
from probemap.probing.inputs import parse_values
from probemap.records import Answer, Judgement, MapError, RunError, Task

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEANINGS: dict[str, str] = {
    "logprob_mean": "mean log-probability of the answer's tokens, without the one that ended it",
    "logprob_min": "lowest log-probability among the answer's tokens, without the one that ended it",
    "logprob_max": "highest log-probability among the answer's tokens, without the one that ended it",
    "exact_logprob_mean": "mean log-probability of the exact answer's tokens",
    "exact_logprob_min": "lowest log-probability among the exact answer's tokens",
    "exact_logprob_max": "highest log-probability among the exact answer's tokens",
    "answer_length": "how many tokens the model produced, without the one that ended the answer",
    "question_length": "how many characters the question has, without context and template",
    "p_true": "p(True): how likely the model holds its own answer for true when asked",
    "question_words": "which words stand in the question and its context",
    "exact_answer_words": "which words the exact answer is made of",
}
"""Name -> one line of meaning, in the order in which they are shown."""

MIN_TRAINING = 2
"""Fewer right or fewer wrong answers than this to learn from: a fold's answers get no score."""


@dataclass(frozen=True)
class Baseline:
    """One number or one text per answer, known without hidden states."""

    name: str
    """A key of MEANINGS."""
    meaning: str
    values: Floats | list[str | None]
    """(n,) float64, NaN where an answer lacks it (no exact answer, no token); or n texts, None where lacking."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", parse_values(self.values, self.name))


def baselines(
    task: Task, answers: Sequence[Answer], judgements: Sequence[Judgement], p_true: Floats | None = None
) -> list[Baseline]:
    """Every baseline of these answers, in the order of MEANINGS.

    Like the probed positions, none of them depends on whether the answer was right.

    Parameters
    ----------
    judgements: one per answer, in their order.
    p_true: (n,) as from `truth.score_p_true`; without it there is no baseline of that name.

    Raises
    ------
    RunError: judgements of other answers, an answer to no question of the task, or another number of `p_true`.
    """
    if [a.id for a in answers] != [j.id for j in judgements]:
        raise RunError("the judgements do not belong to the answers, one each in their order")
    if p_true is not None and len(p_true) != len(answers):
        raise RunError(f"there are {len(p_true)} values of p(True) for {len(answers)} answers")
    examples = {e.id: e for e in task.examples}
    if strangers := [a.id for a in answers if a.id not in examples]:
        raise RunError(f"answer {strangers[0]!r} belongs to no question of the task {task.name}")
    asked = [examples[a.id] for a in answers]
    answers = [a.final for a in answers]
    spoken = [_spoken_logprobs(a) for a in answers]
    exact = [
        a.logprobs[j.span.start - a.n_prompt : j.span.stop - a.n_prompt] if j.span else ()
        for a, j in zip(answers, judgements, strict=True)
    ]
    values: dict[str, Floats | list[str | None]] = {
        f"{what}_{how}": np.array([over(row) if row else np.nan for row in rows], dtype=np.float64)
        for what, rows in (("logprob", spoken), ("exact_logprob", exact))
        for how, over in (("mean", fmean), ("min", min), ("max", max))
    }
    values["answer_length"] = np.array([len(row) for row in spoken], dtype=np.float64)
    values["question_length"] = np.array([len(e.question) for e in asked], dtype=np.float64)
    if p_true is not None:
        values["p_true"] = p_true.astype(np.float64)
    values["question_words"] = [f"{e.context}\n{e.question}" if e.context else e.question for e in asked]
    values["exact_answer_words"] = [fold_text(j.span.text)[0] if j.span else None for j in judgements]
    return [Baseline(name, meaning, values[name]) for name, meaning in MEANINGS.items() if name in values]


def _spoken_logprobs(answer: Answer) -> tuple[float, ...]:
    """Of the answer's tokens, without the one that ended it: a line break that did holds a character, and stays."""
    start, stop = answer.offsets[-1]
    return answer.logprobs[:-1] if answer.stopped and start == stop else answer.logprobs


def scores_by_set(baseline: Baseline, correct: Bools, training: Bools) -> Floats:
    """Every answer's score from logistic regressions that were each fitted on one set of training rows.

    A number is standardised, and whether high or low means "right" is learnt in training, never assumed.  A text is
    the set of its words, those of the training rows; a word never seen in training says nothing.

    Parameters
    ----------
    correct: (n,) the verdicts.
    training: (n_sets, n), the rows to fit on; those that lack the baseline are left out.

    Returns
    -------
    (n_sets, n) float64 decision values, higher means "right"; NaN where the answer lacks the baseline, and in a set
    with fewer than MIN_TRAINING right or wrong answers that have it.

    Raises
    ------
    MapError: another number of values, verdicts or rows, or a value is infinite.
    """
    if not len(baseline.values) == len(correct) == training.shape[1]:
        raise MapError(
            f"{baseline.name} has {len(baseline.values)} values for {len(correct)} verdicts and {training.shape[1]} "
            "folds",
            "give those of the judged answers only",
        )
    if isinstance(baseline.values, list):
        fit: Callable[[Any, Bools, Any], Floats] = _by_words
        given = np.array([text or "" for text in baseline.values], dtype=object)
        present = np.array([text is not None for text in baseline.values], dtype=np.bool_)
    else:
        fit, given, present = _by_number, baseline.values, ~np.isnan(baseline.values)
        if np.isinf(baseline.values).any():
            raise MapError(f"{baseline.name} holds infinite values", "what is missing is NaN; the rest must be finite")
    scores = np.full(training.shape, np.nan)
    for row, rows in zip(scores, training & present, strict=True):
        if min(correct[rows].sum(), (~correct[rows]).sum()) >= MIN_TRAINING:
            row[present] = fit(given[rows], correct[rows], given[present])
    return scores


def _by_number(training: Floats, correct: Bools, test: Floats) -> Floats:
    """The scores of `test`, on the scale that the training rows have."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(training[:, None], correct)
    scores: Floats = probe.decision_function(test[:, None])
    return scores


_WORD = r"(?u)\b\w+\b"


def _by_words(training: npt.NDArray[np.object_], correct: Bools, test: npt.NDArray[np.object_]) -> Floats:
    """The scores of `test`; all 0 where the training rows hold no word at all, which scikit-learn refuses."""
    if not any(re.search(_WORD, text) for text in training):
        return np.zeros(len(test))
    words = CountVectorizer(binary=True, lowercase=True, token_pattern=_WORD)
    probe = make_pipeline(words, LogisticRegression(C=1.0, max_iter=1000)).fit(training, correct)
    scores: Floats = probe.decision_function(test)
    return scores
