"""The error taxonomy on worked examples with 30 samples, as in the paper."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.studies.error_types import ERROR_TYPES, SampledQuestion, classify, count_types
from probemap.studies.semantics import Content


def sampled(correct: int = 0, incorrect: tuple[int, ...] = (), refused: int = 0, undecided: int = 0) -> SampledQuestion:
    """Return a question with numbers of correct, incorrect (per meaning), refused and undecided samples."""
    rows: list[tuple[bool | None, int, Content]] = [(True, 0, "answer")] * correct
    for meaning, count in enumerate(incorrect, start=1):
        rows += [(False, meaning, "answer")] * count
    rows += [(None, 98, "refusal")] * refused
    rows += [(None, 99, "nothing")] * undecided
    verdicts, meanings, contents = zip(*rows, strict=True)
    return SampledQuestion("q", verdicts, meanings, contents)


@pytest.mark.parametrize(
    ("question", "types"),
    [
        (sampled(refused=15, undecided=15), "A"),
        (sampled(refused=14, undecided=16), ""),
        (sampled(correct=30), "B"),
        (sampled(correct=15, incorrect=(1,) * 4 + (2,) * 4, undecided=3), "B"),
        (sampled(correct=14, incorrect=(8, 2), undecided=6), ""),
        (sampled(incorrect=(15, 8), undecided=7), "C"),
        (sampled(incorrect=(14, 8), undecided=8), ""),
        (sampled(correct=15, incorrect=(15,)), "BCD"),
        (sampled(correct=13, incorrect=(8,), undecided=9), "D"),  # 5 of 30 apart
        (sampled(correct=14, incorrect=(8,), undecided=8), ""),  # 6 apart
        (sampled(correct=5, incorrect=(5,), undecided=20), "D"),
        (sampled(correct=4, incorrect=(5,), undecided=21), ""),  # one of the two fewer than 5 times
        (sampled(correct=5, incorrect=(4, 1), undecided=20), ""),
        (
            sampled(correct=5, incorrect=(3,) * 8, undecided=1),
            "",
        ),  # no single incorrect answer competes
        (sampled(incorrect=(3,) * 10), "E"),
        (sampled(correct=3, incorrect=(3,) * 9), "E"),
        (sampled(incorrect=(3,) * 9, undecided=3), ""),
        (sampled(refused=21, incorrect=(1,) * 9), "A"),  # refusals are not distinct answers
        (sampled(refused=15, correct=6, incorrect=(1,) * 9), "AE"),
    ],
)
def test_classify_follows_the_thresholds_of_the_paper(question: SampledQuestion, types: str) -> None:
    assert len(question.verdicts) == 30
    assert classify(question) == types


def test_classify_scales_the_thresholds_with_the_number_of_samples() -> None:
    assert classify(sampled(correct=5, incorrect=(5,))) == "BCD"
    assert classify(sampled(correct=5, incorrect=(4, 1))) == "BD"  # 1 of 10 apart is within a sixth
    assert classify(sampled(correct=4, incorrect=(2, 2, 2))) == "E"  # 2 of 10 apart is not; four answers are a third
    assert classify(sampled(incorrect=(3, 3, 2), undecided=2)) == ""
    # A third of three samples is one answer, but one or two are not many.
    assert classify(sampled(correct=3)) == "B"
    assert classify(sampled(correct=1, incorrect=(1,))) == "BCD"
    assert classify(sampled(correct=1, incorrect=(1, 1))) == "DE"


def test_sampled_question_counts() -> None:
    question = sampled(correct=3, incorrect=(4, 4, 1), refused=2, undecided=1)
    assert (question.n_correct, question.n_same_incorrect, question.n_distinct) == (3, 4, 4)
    # Two spellings of a correct answer are one answer.
    assert SampledQuestion("q", (True, True), (0, 1), ("answer", "answer")).n_distinct == 1


def test_count_types() -> None:
    assert count_types(["B", "DE", "", "E"]) == {"A": 0, "B": 1, "C": 0, "D": 1, "E": 2, "": 1}


CONTENTS = st.sampled_from(["answer", "refusal", "nothing"])
SAMPLE = st.tuples(st.sampled_from([True, False, None]), st.integers(0, 5), CONTENTS)


@given(st.lists(SAMPLE, min_size=2, max_size=40), st.randoms())
def test_classify_ignores_the_order_of_samples(rows: list[tuple[bool | None, int, Content]], random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    types, types_of_shuffled = (
        classify(SampledQuestion("q", *map(tuple, zip(*order, strict=True)))) for order in (rows, shuffled)
    )
    assert types == types_of_shuffled
    assert set(types) <= set(ERROR_TYPES)
    n_correct = sum(verdict is True for verdict, _, _ in rows)
    assert ("B" in types) == (n_correct >= len(rows) / 2)
