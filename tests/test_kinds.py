"""The paper's error types, on worked examples with 30 samples, as there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.studies.error_types import KINDS, Sampled, counts, kinds_of
from probemap.studies.semantics import Gives


def sampled(right: int = 0, wrong: tuple[int, ...] = (), refuses: int = 0, undecided: int = 0) -> Sampled:
    """So many right answers, wrong answers of each meaning, refusals, and answers without verdict."""
    rows: list[tuple[bool | None, int, Gives]] = [(True, 0, "answer")] * right
    for meaning, count in enumerate(wrong, start=1):
        rows += [(False, meaning, "answer")] * count
    rows += [(None, 98, "refusal")] * refuses
    rows += [(None, 99, "nothing")] * undecided
    correct, meaning_of, gives = zip(*rows, strict=True)
    return Sampled("q", correct, meaning_of, gives)


@pytest.mark.parametrize(
    ("one", "kinds"),
    [
        (sampled(refuses=15, undecided=15), "A"),
        (sampled(refuses=14, undecided=16), ""),
        (sampled(right=30), "B"),
        (sampled(right=15, wrong=(1,) * 4 + (2,) * 4, undecided=3), "B"),
        (sampled(right=14, wrong=(8, 2), undecided=6), ""),
        (sampled(wrong=(15, 8), undecided=7), "C"),
        (sampled(wrong=(14, 8), undecided=8), ""),
        (sampled(right=15, wrong=(15,)), "BCD"),
        (sampled(right=13, wrong=(8,), undecided=9), "D"),  # 5 of 30 apart
        (sampled(right=14, wrong=(8,), undecided=8), ""),  # 6 apart
        (sampled(right=5, wrong=(5,), undecided=20), "D"),
        (sampled(right=4, wrong=(5,), undecided=21), ""),  # one of them less than 5 times
        (sampled(right=5, wrong=(4, 1), undecided=20), ""),
        (sampled(right=5, wrong=(3,) * 8, undecided=1), ""),  # wrong often, but no one wrong answer competes
        (sampled(wrong=(3,) * 10), "E"),
        (sampled(right=3, wrong=(3,) * 9), "E"),
        (sampled(wrong=(3,) * 9, undecided=3), ""),
        (sampled(refuses=21, wrong=(1,) * 9), "A"),  # a refusal is not an answer among others
        (sampled(refuses=15, right=6, wrong=(1,) * 9), "AE"),
    ],
)
def test_the_paper_s_thresholds(one: Sampled, kinds: str) -> None:
    assert len(one.correct) == 30
    assert kinds_of(one) == kinds


def test_other_numbers_of_samples_keep_the_shares() -> None:
    assert kinds_of(sampled(right=5, wrong=(5,))) == "BCD"
    assert kinds_of(sampled(right=5, wrong=(4, 1))) == "BD"  # 1 of 10 apart is within a sixth
    assert kinds_of(sampled(right=4, wrong=(2, 2, 2))) == "E"  # 2 of 10 apart is not; four answers are a third
    assert kinds_of(sampled(wrong=(3, 3, 2), undecided=2)) == ""
    # A third of three samples is one answer, but one or two are not many.
    assert kinds_of(sampled(right=3)) == "B"
    assert kinds_of(sampled(right=1, wrong=(1,))) == "BCD"
    assert kinds_of(sampled(right=1, wrong=(1, 1))) == "DE"


def test_what_is_counted() -> None:
    one = sampled(right=3, wrong=(4, 4, 1), refuses=2, undecided=1)
    assert (one.right, one.same_wrong, one.different) == (3, 4, 4)
    # Accepted in two spellings is one answer.
    assert Sampled("q", (True, True), (0, 1), ("answer", "answer")).different == 1
    assert counts(["B", "DE", "", "E"]) == {"A": 0, "B": 1, "C": 0, "D": 1, "E": 2, "": 1}


GIVES = st.sampled_from(["answer", "refusal", "nothing"])
SAMPLE = st.tuples(st.sampled_from([True, False, None]), st.integers(0, 5), GIVES)


@given(st.lists(SAMPLE, min_size=2, max_size=40), st.randoms())
def test_the_order_of_samples_does_not_matter(rows: list[tuple[bool | None, int, Gives]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (kinds_of(Sampled("q", *map(tuple, zip(*some, strict=True)))) for some in (rows, shuffled))
    assert one == other
    assert set(one) <= set(KINDS)
    right = sum(c is True for c, _, _ in rows)
    assert ("B" in one) == (right >= len(rows) / 2)
