"""Baselines: predictors of correctness that do not use hidden states, such as log-probabilities, lengths and words.

The entropy at a token is that of the distribution over the whole vocabulary from which the token comes, at temperature
1.  It is negated, so that higher values of a confidence baseline (see `CONFIDENCES`) suggest a correct answer.

An AUC shows that the hidden states contain additional information only if it exceeds the AUCs of the baselines.  Orgad
et al. 2024 (arXiv 2410.02707) used p(True) and the log-probabilities of the answer and of the exact answer as
baselines.  The word baselines show how much the choice of questions and answers reveals about correctness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from probemap.probing.inputs import Column, parse_values, parse_vectors
from probemap.reading.folding import fold as normalise
from probemap.records import Answer, Judgement, MapError, RunError, Task

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints

Vectors = npt.NDArray[np.float32]
"""Array of shape (n, d) with one vector per answer."""

MEANINGS: dict[str, str] = {
    "logprob_mean": "mean log-probability of the answer's tokens, without the end token",
    "logprob_min": "lowest log-probability of the answer's tokens, without the end token",
    "logprob_max": "highest log-probability of the answer's tokens, without the end token",
    "exact_logprob_mean": "mean log-probability of the exact answer's tokens",
    "exact_logprob_min": "lowest log-probability of the exact answer's tokens",
    "exact_logprob_max": "highest log-probability of the exact answer's tokens",
    "entropy_mean": "negative mean entropy at the answer's tokens, without the end token",
    "entropy_max": "negative highest entropy at the answer's tokens, without the end token",
    "exact_entropy_mean": "negative mean entropy at the exact answer's tokens",
    "exact_entropy_max": "negative highest entropy at the exact answer's tokens",
    "answer_length": "number of tokens of the answer, without the end token",
    "cut_off": "whether the answer was cut off at the token limit (1) or not (0)",
    "question_length": "number of characters of the question, without context and template",
    "p_true": "p(True): the probability that the model assigns to its own answer being true",
    "question_words": "words of the question and its context",
    "exact_answer_words": "words of the exact answer",
    "text_ngrams": "character n-grams of the question and the answer",
    "input_embeddings": "mean of the model's input embeddings of the answer's tokens, without context",
}
"""Meaning of each baseline, in the order in which the baselines are shown."""

CONFIDENCES = tuple(name for name in MEANINGS if "logprob" in name or "entropy" in name or name == "p_true")
"""Names of the baselines that measure the model's confidence, where higher values suggest a correct answer.  They can
be used without training."""

MIN_TRAINING = 2
"""A regression is fitted only if the training set has at least this many correct and this many incorrect answers."""

_WORD = r"(?u)\b\w+\b"

_VECTOR_C = 0.01
"""C value of the regression on vectors, whose features are standardised.  In the demo, the AUC of the input embeddings
is the same with 0.1, and 0.03 lower with 0.001."""

_NGRAM_FEATURES = 2**14
"""Number of features to which the n-grams of a text are hashed."""


@dataclass(frozen=True)
class Baseline:
    """A predictor of correctness with one number, one vector or one text per answer.

    Examples
    --------
    >>> from probemap import Baseline
    >>> Baseline("popularity", "page views of the subject of the question", [120.0, None, 3.0]).values
    array([120.,  nan,   3.])
    """

    name: str
    """A key of `MEANINGS`, or any other name."""
    meaning: str
    """One-line description, which is shown in tables."""
    values: Floats | Vectors | list[str | None]
    """Numbers (a float64 array of shape (n,) with NaN for missing values), vectors (a float32 array of shape (n, d), in
    which a vector with a NaN is missing) or texts (a list of length n with None for missing texts).  Any array-like is
    accepted; value i belongs to answer i."""
    text_features: Literal["words", "ngrams"] = "words"
    """Features of a text: the set of its words, or its character n-grams (2 to 4 characters within words)."""

    def __post_init__(self) -> None:
        parse = parse_vectors if getattr(self.values, "ndim", 1) == 2 else parse_values
        object.__setattr__(self, "values", parse(self.values, self.name))

    @property
    def present(self) -> Bools:
        """Mask of the answers that have a value, as an array of shape (n,)."""
        if isinstance(self.values, list):
            return np.array([text is not None for text in self.values], dtype=np.bool_)
        return np.asarray(~np.isnan(self.values.reshape(len(self.values), -1)).any(axis=1))

    def at(self, rows: Ints) -> Baseline:
        """Return the baseline for the answers with these indices."""
        if isinstance(self.values, list):
            return replace(self, values=[self.values[row] for row in rows.tolist()])
        return replace(self, values=self.values[rows])


def compute_baselines(
    task: Task,
    answers: Sequence[Answer],
    judgements: Sequence[Judgement],
    p_true: Floats | None = None,
    *,
    input_embeddings: Vectors | None = None,
) -> list[Baseline]:
    """Compute the baselines for the answers to the questions in a task, in the order of `MEANINGS`.

    Like the probed positions, the baselines are determined without using the labels of the answers.

    Parameters
    ----------
    task : Task
    answers : sequence of Answer
    judgements : sequence of Judgement
        One judgement per answer, in the order of the answers.
    p_true : ndarray of shape (n,), optional
        Values of p(True), as returned by `models.p_true.score_p_true`.  By default, this baseline is omitted.
    input_embeddings : ndarray of shape (n, d), float32, optional
        See `Activations.input_embeddings`.  By default, this baseline is omitted.

    Returns
    -------
    list of Baseline
        The entropies are omitted if no answer has any.

    Raises
    ------
    RunError
        If the judgements, the values of p(True) or the input embeddings do not match the answers, or if an answer does
        not match any question in the task.

    Examples
    --------
    >>> from probemap import Answer, Example, Judgement, Task, Verdict, compute_baselines
    >>> task = Task("sums", (Example("a", "What is 2 + 3?", ("5",)),), "numbers")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="It is 5.", token_ids=(0, 1, 2, 3), n_prompt=1,
    ...     offsets=((0, 1), (0, 5), (5, 7), (7, 8)), logprobs=(-0.1, -0.2, -0.3), stopped=True,
    ... )
    >>> baselines = compute_baselines(task, [answer], [Judgement("a", Verdict(True, "correct"), span=None)])
    >>> baselines[0].name, len(baselines)
    ('logprob_mean', 12)
    """
    if [a.id for a in answers] != [j.id for j in judgements]:
        raise RunError("the judgements do not match the answers", "pass one judgement per answer, in the same order")
    if p_true is not None and len(p_true) != len(answers):
        raise RunError(f"got {len(p_true)} values of p(True) for {len(answers)} answers", "pass one value per answer")
    if input_embeddings is not None and len(input_embeddings) != len(answers):
        raise RunError(
            f"got {len(input_embeddings)} input embeddings for {len(answers)} answers", "pass one vector per answer"
        )
    examples = {example.id: example for example in task.examples}
    if unknown := [a.id for a in answers if a.id not in examples]:
        raise RunError(
            f"answer {unknown[0]!r} does not match any question in the task {task.name}",
            "pass the task whose questions were answered",
        )
    answered = [examples[a.id] for a in answers]
    answers = [a.final for a in answers]
    whole = [slice(a.text_tokens.stop - a.n_prompt) for a in answers]
    exact = [
        slice(j.span.start - a.n_prompt, j.span.stop - a.n_prompt) if j.span else slice(0)
        for a, j in zip(answers, judgements, strict=True)
    ]
    values: dict[str, Floats | Vectors | list[str | None]] = {}
    for prefix, slices in (("", whole), ("exact_", exact)):
        logprobs = [a.logprobs[tokens] for a, tokens in zip(answers, slices, strict=True)]
        for name, statistic in (("mean", fmean), ("min", min), ("max", max)):
            values[f"{prefix}logprob_{name}"] = _each(logprobs, statistic)
        if any(a.entropies for a in answers):
            negative = [tuple(-h for h in a.entropies[tokens]) for a, tokens in zip(answers, slices, strict=True)]
            values |= {f"{prefix}entropy_mean": _each(negative, fmean), f"{prefix}entropy_max": _each(negative, min)}
    values["answer_length"] = np.array([tokens.stop for tokens in whole], dtype=np.float64)
    values["cut_off"] = np.array([not a.stopped for a in answers], dtype=np.float64)
    values["question_length"] = np.array([len(e.question) for e in answered], dtype=np.float64)
    if p_true is not None:
        values["p_true"] = p_true.astype(np.float64)
    if input_embeddings is not None:
        values["input_embeddings"] = input_embeddings
    questions = [f"{e.context}\n{e.question}" if e.context else e.question for e in answered]
    values["question_words"] = list(questions)
    values["exact_answer_words"] = [normalise(j.span.text)[0] if j.span else None for j in judgements]
    values["text_ngrams"] = [f"{question}\n{a.text}" for question, a in zip(questions, answers, strict=True)]
    return [
        Baseline(name, meaning, values[name], "ngrams" if name == "text_ngrams" else "words")
        for name, meaning in MEANINGS.items()
        if name in values
    ]


def covariate_baseline(name: str, values: Column) -> Baseline:
    """Return the baseline that predicts correctness from a covariate, e.g. from a field of the question file.

    Parameters
    ----------
    name : str
        Name of the covariate.
    values : array-like of shape (n,)
        Numbers, or texts, which are treated as categories: each text is a single word of the baseline, so that
        categories with common words, such as "place of birth" and "place of death", are not similar.

    Returns
    -------
    Baseline

    Raises
    ------
    MapError
        If another baseline has the same name, or if the values are neither all numbers nor all texts.

    Examples
    --------
    >>> from probemap.probing.baselines import covariate_baseline
    >>> covariate_baseline("relation", ["place of birth", "spouse", None]).values
    ['category0', 'category1', None]
    """
    if name in MEANINGS:
        raise MapError(f"the covariate {name!r} has the name of a baseline", "rename the field of the questions")
    parsed = parse_values(values, name)
    if isinstance(parsed, list):
        number_of = {text: k for k, text in enumerate(sorted({text for text in parsed if text is not None}))}
        parsed = [None if text is None else f"category{number_of[text]}" for text in parsed]
    return Baseline(name, "covariate", parsed)


def _each(rows: Sequence[tuple[float, ...]], statistic: Callable[[tuple[float, ...]], float]) -> Floats:
    """Return a statistic of each row, as an array of shape (n,) with NaN for empty rows."""
    return np.array([statistic(row) if row else np.nan for row in rows], dtype=np.float64)


def baseline_scores(baseline: Baseline, correct: Bools, training: Bools) -> Floats:
    """Fit a logistic regression on a baseline for each training set, and return the scores of all answers.

    Numbers and vectors are standardised, and the training rows determine whether high or low numbers indicate correct
    answers.  A text is represented by the set of its words, where words that do not occur in the training rows are
    ignored, or by its character n-grams.

    Parameters
    ----------
    baseline : Baseline
    correct : ndarray of shape (n,), bool
    training : ndarray of shape (n_sets, n), bool
        Mask of the rows in each training set.  Rows without a value are ignored.

    Returns
    -------
    ndarray of shape (n_sets, n), float64
        Decision values.  A higher value indicates that the answer is more likely to be correct.  NaN where the answer
        has no value, and for all answers if the training set has fewer than `MIN_TRAINING` correct or incorrect
        answers.

    Raises
    ------
    MapError
        If `baseline`, `correct` and `training` do not all have the same number of answers, or if a value is infinite.
    """
    if not len(baseline.values) == len(correct) == training.shape[1]:
        raise MapError(
            f"{baseline.name} has {len(baseline.values)} values for {len(correct)} labels and {training.shape[1]} "
            "training rows",
            "pass one value per evaluated answer",
        )
    if not isinstance(baseline.values, list) and np.isinf(baseline.values).any():
        raise MapError(f"{baseline.name} contains infinite values", "use NaN for missing values")
    scores, present = np.full(training.shape, np.nan), baseline.present
    training = training & present
    enough = np.minimum(training[:, correct].sum(axis=1), training[:, ~correct].sum(axis=1)) >= MIN_TRAINING
    if not enough.any():
        return scores
    training, labels = training[np.ix_(enough, present)], correct[present]
    by_set: Floats
    if not isinstance(baseline.values, list):
        by_set = _scores_of_numbers(baseline.values[present], labels, training)
    else:
        texts = np.array([text for text in baseline.values if text is not None], dtype=object)
        fit: Callable[[Any, Bools, Any], Floats] = _scores_of_words
        if baseline.text_features == "ngrams":
            # The n-grams are hashed, so the features do not depend on the training rows.
            ngrams = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=_NGRAM_FEATURES)
            fit, texts = _scores_of_ngrams, ngrams.transform(texts)
        with threadpool_limits(1):  # the fits are small, and take several times as long with several threads each
            by_set = np.stack([fit(texts[rows], labels[rows], texts) for rows in training])
    scores[np.ix_(enough, present)] = by_set
    return scores


def _scores_of_numbers(values: Floats | Vectors, correct: Bools, training: Bools) -> Floats:
    """Return the scores for each training set, given numbers of shape (n,) or vectors of shape (n, d)."""
    from probemap.probing.logistic.solver import DesignMatrices  # imports torch, which takes seconds

    features, c = values, _VECTOR_C
    if values.ndim == 1:
        # Numbers are standardised in float64, because large ones may differ only in their last digits.
        features, c = ((values - values.mean()) / (values.std() or 1))[:, None], 1.0
    design = DesignMatrices(features.astype(np.float32)[None], training, "cpu")
    sets = np.arange(len(training))
    fits = design.fit(correct[None], np.zeros_like(sets), sets, np.full((1, len(sets)), c))
    scores: Floats = fits.scores[0].double().numpy()
    return scores


def _scores_of_words(training: npt.NDArray[np.object_], correct: Bools, test: npt.NDArray[np.object_]) -> Floats:
    # scikit-learn raises an error if no training text contains a word; such texts carry no information.
    if not any(re.search(_WORD, text) for text in training):
        return np.zeros(len(test))
    words = CountVectorizer(binary=True, lowercase=True, token_pattern=_WORD)
    probe = make_pipeline(words, LogisticRegression(C=1.0, max_iter=1000)).fit(training, correct)
    scores: Floats = probe.decision_function(test)
    return scores


def _scores_of_ngrams(training: Any, correct: Bools, test: Any) -> Floats:
    # The penalty is weaker than that of words, because the rows have unit length and their entries are small.
    probe = LogisticRegression(C=10.0, max_iter=1000).fit(training, correct)
    scores: Floats = probe.decision_function(test)
    return scores
