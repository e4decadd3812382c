"""Check whether accepted answers occur in their own questions and contexts.

If they do, a probe may detect which answers repeat the prompt, instead of which answers are correct.

Some occurrences are due to chance, especially of short numbers, of yes and no, and of common words.  Therefore, the
number of questions that contain their own accepted answers is compared with the number that would contain the accepted
answers of a random question of the same kind.  This number follows a Poisson binomial distribution: question i contains
random accepted answers with a probability of p_i, which is the share of the questions whose accepted answers occur in
question i.  (Random permutations of the accepted answers have the same mean and a variance that is not larger, up to a
factor of n / (n - 1).)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from probemap.reading.folding import FUNCTION_WORDS, content_words, words_of

if TYPE_CHECKING:
    from probemap.records import Example, Task

MAX_P = 0.001
"""Occurrences are a leak only if their p-value is below this value.  There is one test per map, so about one map in a
thousand is reported although all occurrences are due to chance."""

MIN_SHARE = 0.01
"""Occurrences are a leak only if their number exceeds the expected number by this share of all questions.  Fewer
answers can hardly change an AUC, but are easily significant, because a question may contain its answer for a good
reason, e.g. in the name of a county that is named after its capital."""

_Words = tuple[str, ...]
_Gold = frozenset[_Words]
"""The accepted answers of a question, each divided into words."""


@dataclass(frozen=True)
class LeakCheck:
    """Number of questions in which their own accepted answers occur, compared with chance.

    Examples
    --------
    >>> from probemap import LeakCheck
    >>> LeakCheck(n=500, count=120, expected=3.0, p=0.0).counts
    '120 of 500 (3.0 expected by chance)'
    >>> LeakCheck(n=500, count=5, expected=3.0, p=0.18).is_leak
    False
    """

    n: int
    """Number of questions that were checked."""
    n_skipped: int = field(default=0, kw_only=True)
    """Number of questions that were not checked because they name all of their choices."""
    count: int
    """Number of questions whose text or context contains one of their accepted answers."""
    expected: float
    """Number of questions that would contain the accepted answers of a random question of the same kind."""
    p: float
    """Probability that at least `count` questions would contain the accepted answers of random questions."""

    @property
    def is_leak(self) -> bool:
        """Whether there are more occurrences than chance explains, in a relevant share of the questions."""
        return self.p < MAX_P and self.count - self.expected >= MIN_SHARE * (self.n + self.n_skipped)

    @property
    def counts(self) -> str:
        """The counts, e.g. ``120 of 500 (3.0 expected by chance)``."""
        expected = f"{self.expected:.1f}" if self.expected < 10 else f"{self.expected:.0f}"
        skipped = f"; {self.n_skipped} questions name all of their choices" if self.n_skipped else ""
        return f"{self.count} of {self.n} ({expected} expected by chance{skipped})"

    @property
    def warning(self) -> str:
        """Sentences that report the leak, or an empty string if there is none."""
        if not self.is_leak:
            return ""
        counts = self.counts.replace(f"of {self.n} ", f"of {self.n} questions ")
        return (
            f"The accepted answer occurs in the question or context of {counts}.  A probe can use it: it may detect "
            "which answers repeat the prompt, instead of which answers are correct."
        )

    def to_attrs(self) -> dict[str, int | float]:
        """Return the fields as attributes of a map, with the prefix ``leak_``."""
        return {f"leak_{name}": value for name, value in asdict(self).items()}

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> LeakCheck | None:
        """Return the check that is recorded in the attributes of a map, or None if there is none."""
        if "leak_n" not in attrs:
            return None
        return cls(
            n=int(attrs["leak_n"]),
            n_skipped=int(attrs["leak_n_skipped"]),
            count=int(attrs["leak_count"]),
            expected=float(attrs["leak_expected"]),
            p=float(attrs["leak_p"]),
        )


HINT = (
    "if the answers should not be in the prompts, remove them or these questions; if the task is to find the answer in "
    "a context, compare the map with one of the same questions without the contexts"
)
"""Hint that follows `LeakCheck.warning` in messages."""


def find_leaks(task: Task) -> LeakCheck:
    """Count the questions whose text or context contains one of their accepted answers.

    Whole words are compared after folding; see `reading.folding`.  Worked examples in the prompt and listed choices are
    not searched.  A question that names all of its choices is not checked, because it necessarily names the accepted
    one.

    Parameters
    ----------
    task : Task

    Returns
    -------
    LeakCheck

    Examples
    --------
    >>> from probemap import Example, Task
    >>> from probemap.tasks.leaks import find_leaks
    >>> names = [f"{a}{b}" for a in ("Ar", "Be", "Co", "Du", "El") for b in ("dan", "lin", "mos", "ton")]
    >>> examples = [Example(name, "Who won?", (name,), context=f"The winner was {name}.") for name in names]
    >>> check = find_leaks(Task("winners", tuple(examples), "open"))
    >>> check.is_leak, check.counts
    (True, '20 of 20 (1.0 expected by chance)')
    """
    by_kind: defaultdict[str, list[tuple[Example, _Gold]]] = defaultdict(list)
    n_skipped = 0
    for example in task.examples:
        gold = _gold(example)
        if gold and _names_all_choices(example):
            n_skipped += 1
        elif gold:
            by_kind[task.kind_of(example)].append((example, gold))
    count, chances = 0, []
    for questions in by_kind.values():
        occurs, chance = _occurrences(questions)
        count += sum(occurs)
        chances += chance
    p = _tail(chances, count)
    return LeakCheck(n=len(chances), n_skipped=n_skipped, count=count, expected=sum(chances), p=p)


def _gold(example: Example) -> _Gold:
    return frozenset(words for answer in example.answers if (words := _searched(answer)))


def _searched(name: str) -> _Words:
    """Return the words to search for.  An article is kept in a name such as "The Who", whose other words are common."""
    words = content_words(name)
    return words if not FUNCTION_WORDS.issuperset(words) else tuple(word.text for word in words_of(name))


def _names_all_choices(example: Example) -> bool:
    if len(example.choices) < 2:
        return False
    choices = {words for choice in example.choices if (words := _searched(choice))}
    return _contained(example, _Index(choices)) == choices


class _Index:
    """The word sequences to search for, by first word."""

    def __init__(self, names: set[_Words]) -> None:
        self.names = names
        self.lengths: defaultdict[str, set[int]] = defaultdict(set)
        for name in names:
            self.lengths[name[0]].add(len(name))


def _contained(example: Example, index: _Index) -> set[_Words]:
    """Return the names that occur in the question or in its context."""
    contained = set()
    for text in (example.question, example.context):
        words = tuple(word.text for word in words_of(text))
        for start, word in enumerate(words):
            for length in index.lengths.get(word, ()):
                if (name := words[start : start + length]) in index.names:
                    contained.add(name)
    return contained


def _occurrences(questions: Sequence[tuple[Example, _Gold]]) -> tuple[list[bool], list[float]]:
    """Return, for each question, whether it contains its own accepted answers, and the share of all questions whose
    accepted answers it contains."""
    counts = Counter(gold for _, gold in questions)
    golds_of: defaultdict[_Words, list[_Gold]] = defaultdict(list)
    for gold in counts:
        for name in gold:
            golds_of[name].append(gold)
    index = _Index(set(golds_of))
    occurs, chance = [], []
    for example, gold in questions:
        contained = {owner for name in _contained(example, index) for owner in golds_of[name]}
        occurs.append(gold in contained)
        chance.append(sum(counts[owner] for owner in contained) / len(questions))
    return occurs, chance


def _tail(chances: Sequence[float], count: int) -> float:
    """Return the probability of at least `count` successes in independent trials with the given probabilities."""
    below = np.zeros(count)  # probabilities of 0, 1, …, count - 1 successes
    if not count:
        return 1.0
    below[0] = 1.0
    for chance in chances:
        below[1:] = below[1:] * (1 - chance) + below[:-1] * chance
        below[0] *= 1 - chance
    return float(max(1 - below.sum(), 0.0))
