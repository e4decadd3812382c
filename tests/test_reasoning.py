"""Verdicts, exact answers and positions of a reasoning model refer to its final answer, not to its reasoning."""

from dataclasses import replace

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import locate_answer
from probemap.grading.rules import CUT_OFF, grade_answer
from probemap.models.reasoning import count_reasoning_tokens
from probemap.positions import resolve
from probemap.probing.baselines import compute_baselines
from probemap.records import Answer, Example, Judgement, Task

TOKENS = ["<think>", "Rome", ",", " Spain", "?", "</think>", "\n\n", "It", " is", " Italy", "."]
EXAMPLE = Example("a", "Where is the Colosseum?", ("Italy",))
TASK = Task("t", (EXAMPLE,), "names", possible=(("Italy",), ("Spain",)))


def reasoned(tokens: list[str], stopped: bool = True, prompt: str = "Q") -> Answer:
    answer = make_answer("".join(tokens), tokens, [prompt], stopped=stopped)
    return replace(answer, n_reasoning=count_reasoning_tokens(answer.prompt, answer.text, answer.offsets[1:]))


def test_judge_and_locate_read_the_final_answer() -> None:
    answer = reasoned([*TOKENS, ""])
    assert answer.n_reasoning == 7
    assert answer.final.text == "It is Italy."
    assert grade_answer(TASK, EXAMPLE, answer).correct is True, "Spain occurs in the reasoning only"
    span, _ = locate_answer(TASK, EXAMPLE, answer)
    assert span is not None
    assert (span.start, span.stop, span.text) == (10, 11, "Italy")
    names = ("last_q", "first_answer", "second_answer", "-1", "-5", "-6")
    expected = {"last_q": 0, "first_answer": 8, "second_answer": 9, "-1": 12, "-5": 8, "-6": None}
    assert {name: resolve(name, answer, span) for name in names} == expected
    assert resolve("first_reasoning", answer, span) == 1
    assert resolve("last_reasoning", answer, span) == 7
    (length,) = [b for b in compute_baselines(TASK, [answer], [judgement(answer)]) if b.name == "answer_length"]
    assert list(length.values) == [4]


def judgement(answer: Answer) -> Judgement:
    return Judgement(answer.id, grade_answer(TASK, EXAMPLE, answer), locate_answer(TASK, EXAMPLE, answer)[0])


def test_count_reasoning_tokens_of_an_unclosed_block_is_all_tokens() -> None:
    answer = reasoned(TOKENS[:5], stopped=False)
    assert (answer.n_reasoning, answer.final.text) == (5, "")
    assert grade_answer(TASK, EXAMPLE, answer) == CUT_OFF
    assert locate_answer(TASK, EXAMPLE, answer) == (None, "empty answer")
    assert [resolve(name, answer, None) for name in ("first_answer", "-1", "last_q")] == [None, None, 0]


def test_count_reasoning_tokens_of_a_block_opened_by_the_template() -> None:
    assert reasoned(TOKENS[1:], prompt="Q<think>\n").n_reasoning == 6
    assert reasoned(TOKENS[1:]).n_reasoning == 0, "a closing marker alone is text"
    assert reasoned(TOKENS[7:], prompt="Q<think>\n\n</think>\n\n").n_reasoning == 0, "reasoning was turned off"


@pytest.mark.parametrize(
    "tokens",
    [
        ["[THINK]", "x", "[/THINK]", "It"],
        ["<|channel|>", "analysis", "x", "<|channel|>", "final", "<|message|>", "It"],
        ["<think>", "a</think>b", "</think>", "It"],
    ],
)
def test_count_reasoning_tokens_recognises_the_markers_of_other_models(tokens: list[str]) -> None:
    assert reasoned(tokens).final.text == "It"


def test_count_reasoning_tokens_excludes_a_token_of_white_space_and_answer() -> None:
    answer = reasoned(["<think>", "</think>", "\n\nIt", " is"])
    assert answer.n_reasoning == 2
    assert answer.final.text == "\n\nIt is"


@given(st.lists(st.sampled_from([*TOKENS, "é", " "]), max_size=12), st.booleans())
def test_final_answer_keeps_text_tokens_and_offsets(tokens: list[str], opened: bool) -> None:
    answer = reasoned(["<think>", *tokens] if opened else tokens)
    final = answer.final
    assert final.prompt + final.text == answer.prompt + answer.text
    assert final.token_ids == answer.token_ids
    assert len(final.logprobs) == len(final.token_ids) - final.n_prompt
    with_entropies = replace(answer, entropies=tuple(map(float, range(len(answer.produced_ids)))))
    assert with_entropies.final.entropies == with_entropies.entropies[answer.n_reasoning :]
    assert final.entropies == ()
    for i, (a, b) in enumerate(final.offsets):
        start, stop = answer.offsets[i]
        expected = (answer.prompt if i < answer.n_prompt else answer.text)[start:stop]
        assert (final.prompt if i < final.n_prompt else final.text)[a:b] == expected
    assert final.final is final
