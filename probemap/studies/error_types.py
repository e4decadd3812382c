"""Classify questions according to the error taxonomy of Orgad et al. 2024 (arXiv 2410.02707, section 5 and table 2).

The error types of a question depend on several sampled answers.  The paper draws 30 samples per question.  Here, its
thresholds are expressed as fractions of the number of samples: one half, one sixth, and one third (for example, 10
distinct answers out of 30).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probemap.studies.semantics import Content

ERROR_TYPES: dict[str, str] = {
    "A": "refuses to answer (at least half)",
    "B": "consistently correct (at least half)",
    "C": "consistently incorrect (the same incorrect answer in at least half)",
    "D": "two competing answers (correct, and one incorrect answer: a sixth each, and at most a sixth apart)",
    "E": "many answers (a third of the samples differ in meaning)",
}
"""Mapping from the letter of each error type to its definition, in the same order as in the paper.  A question may have
several error types, or none."""


@dataclass(frozen=True)
class SampledQuestion:
    """The sampled answers to one question, graded and grouped by meaning."""

    id: str
    verdicts: tuple[bool | None, ...]
    """One verdict per sample."""
    meanings: tuple[int, ...]
    """One number per sample; samples with the same meaning have the same number.  See `semantics.meanings`."""
    contents: tuple[Content, ...]
    """Content of each sample: ``answer``, ``refusal``, or ``nothing`` if the sample contains no words."""

    @property
    def n_refused(self) -> int:
        """Number of samples that refuse to answer."""
        return sum(content == "refusal" for content in self.contents)

    @property
    def n_correct(self) -> int:
        """Number of correct samples."""
        return sum(verdict is True for verdict in self.verdicts)

    @property
    def n_same_incorrect(self) -> int:
        """Number of samples that give the most frequent incorrect answer; refusals are not counted."""
        triples = zip(self.meanings, self.verdicts, self.contents, strict=True)
        incorrect = Counter(m for m, verdict, content in triples if verdict is False and content == "answer")
        return max(incorrect.values(), default=0)

    @property
    def n_distinct(self) -> int:
        """Number of distinct answers.  All correct answers count as one; refusals and undecided answers are not
        counted."""
        triples = zip(self.meanings, self.verdicts, self.contents, strict=True)
        decided = [(m, verdict) for m, verdict, content in triples if verdict is not None and content == "answer"]
        return len({-1 if verdict else m for m, verdict in decided})


def classify(question: SampledQuestion) -> str:
    """Return the error types of a question.

    Parameters
    ----------
    question : SampledQuestion

    Returns
    -------
    str
        Letters of the error types, in the order of `ERROR_TYPES`, e.g. ``""``, ``"B"`` or ``"DE"``.
    """
    # Integer arithmetic makes the thresholds exact: for 30 samples, one half is 15 and one sixth is 5.
    k = len(question.verdicts)
    correct, incorrect = question.n_correct, question.n_same_incorrect
    conditions = {
        "A": 2 * question.n_refused >= k,
        "B": 2 * correct >= k,
        "C": 2 * incorrect >= k,
        "D": 6 * correct >= k and 6 * incorrect >= k and 6 * abs(correct - incorrect) <= k,
        # At least three distinct answers are required, even if there are very few samples.
        "E": question.n_distinct >= max(3, k / 3),
    }
    return "".join(letter for letter in ERROR_TYPES if conditions[letter])


def count_types(types: Sequence[str]) -> dict[str, int]:
    """Count the questions with each error type; the key ``""`` counts questions without an error type.

    Parameters
    ----------
    types : sequence of str
        Error types of each question, as returned by `classify`.
    """
    return {letter: sum(letter in letters for letters in types) for letter in ERROR_TYPES} | {
        "": sum(not letters for letters in types)
    }
