"""What kind of error a question brings out, by what a model says when it is asked again and again.

The taxonomy and its thresholds are those of Orgad et al. 2024 (arXiv 2410.02707), section 5 and table 2, there for 30
samples: half of them, a sixth of them, a third of them (10 different answers) for any number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probemap.studies.semantics import Gives

KINDS: dict[str, str] = {
    "A": "refuses to answer (at least half)",
    "B": "consistently right (at least half)",
    "C": "consistently wrong (the same wrong answer in at least half)",
    "D": "two competing answers (right, and one wrong answer: a sixth each, and at most a sixth apart)",
    "E": "many answers (a third of the samples differ in meaning)",
}
"""Name -> meaning, in the paper's order.  A question may be of several kinds, or of none."""


@dataclass(frozen=True)
class Sampled:
    """What came of one question."""

    id: str
    correct: tuple[bool | None, ...]
    """The verdict on each sample."""
    meaning: tuple[int, ...]
    """The same number: the same meaning, see `meaning.meanings`."""
    gives: tuple[Gives, ...]

    @property
    def refused(self) -> int:
        """Samples that refuse to answer."""
        return sum(given == "refusal" for given in self.gives)

    @property
    def right(self) -> int:
        """Samples that are right."""
        return sum(verdict is True for verdict in self.correct)

    @property
    def same_wrong(self) -> int:
        """Samples that give the wrong answer which is given most often; a refusal is no answer."""
        triples = zip(self.meaning, self.correct, self.gives, strict=True)
        wrong = Counter(m for m, c, given in triples if c is False and given == "answer")
        return max(wrong.values(), default=0)

    @property
    def different(self) -> int:
        """How many different answers there are; all right ones are one, refusals and undecided ones are none."""
        triples = zip(self.meaning, self.correct, self.gives, strict=True)
        return len({-1 if c else m for m, c, given in triples if c is not None and given == "answer"})


def kinds_of(sampled: Sampled) -> str:
    """The kinds of a question, as letters: ``""``, ``"B"``, ``"DE"``, ….

    Comparisons are made in whole numbers: of 30 samples, 15 are half of them and 5 a sixth.
    """
    k = len(sampled.correct)
    right, wrong = sampled.right, sampled.same_wrong
    rules = {
        "A": 2 * sampled.refused >= k,
        "B": 2 * right >= k,
        "C": 2 * wrong >= k,
        "D": 6 * right >= k and 6 * wrong >= k and 6 * abs(right - wrong) <= k,
        # Two answers are never many, however few the samples.
        "E": sampled.different >= max(3, k / 3),
    }
    return "".join(kind for kind in KINDS if rules[kind])


def counts(kinds: Sequence[str]) -> dict[str, int]:
    """How many questions are of each kind, and of none (``""``)."""
    return {name: sum(name in one for one in kinds) for name in KINDS} | {"": sum(not one for one in kinds)}
