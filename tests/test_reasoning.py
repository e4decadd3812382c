"""A thinking model's reasoning has no say: verdicts, exact answers and positions are those of the answer proper."""

from dataclasses import replace

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import locate_answer
from probemap.grading.rules import CUT_OFF, grade_answer
from probemap.models.reasoning import count_reasoning_tokens
from probemap.positions import resolve
from probemap.probing.baselines import baselines
from probemap.records import Answer, Example, Judgement, Task

TOKENS = ["<think>", "Rome", ",", " Spain", "?", "</think>", "\n\n", "It", " is", " Italy", "."]
EXAMPLE = Example("a", "Where is the Colosseum?", ("Italy",))
TASK = Task("t", (EXAMPLE,), "names", possible=(("Italy",), ("Spain",)))


def thought(tokens: list[str], stopped: bool = True, prompt: str = "Q") -> Answer:
    made = make_answer("".join(tokens), tokens, [prompt], stopped=stopped)
    return replace(made, n_reasoning=count_reasoning_tokens(made.prompt, made.text, made.offsets[1:]))


def test_the_answer_proper_is_judged_and_located() -> None:
    answer = thought([*TOKENS, ""])
    assert answer.n_reasoning == 7
    assert answer.final.text == "It is Italy."
    assert grade_answer(TASK, EXAMPLE, answer).correct is True, "Spain was only thought of"
    span, _ = locate_answer(TASK, EXAMPLE, answer)
    assert span is not None
    assert (span.start, span.stop, span.text) == (10, 11, "Italy")
    at = {name: resolve(name, answer, span) for name in ("last_q", "first_answer", "second_answer", "-1", "-5", "-6")}
    assert at == {"last_q": 0, "first_answer": 8, "second_answer": 9, "-1": 12, "-5": 8, "-6": None}
    assert resolve("first_reasoning", answer, span) == 1
    assert resolve("last_reasoning", answer, span) == 7
    (words,) = [b for b in baselines(TASK, [answer], [judgement(answer)]) if b.name == "answer_length"]
    assert list(words.values) == [4]


def judgement(answer: Answer) -> Judgement:
    return Judgement(answer.id, grade_answer(TASK, EXAMPLE, answer), locate_answer(TASK, EXAMPLE, answer)[0])


def test_reasoning_without_an_end_is_an_answer_that_was_cut_off() -> None:
    answer = thought(TOKENS[:5], stopped=False)
    assert (answer.n_reasoning, answer.final.text) == (5, "")
    assert grade_answer(TASK, EXAMPLE, answer) == CUT_OFF
    assert locate_answer(TASK, EXAMPLE, answer) == (None, "empty answer")
    assert [resolve(name, answer, None) for name in ("first_answer", "-1", "last_q")] == [None, None, 0]


def test_a_template_may_open_the_block() -> None:
    assert thought(TOKENS[1:], prompt="Q<think>\n").n_reasoning == 6
    assert thought(TOKENS[1:]).n_reasoning == 0, "a closing alone is text"
    assert thought(TOKENS[7:], prompt="Q<think>\n\n</think>\n\n").n_reasoning == 0, "thinking was turned off"


@pytest.mark.parametrize(
    "tokens",
    [
        ["[THINK]", "x", "[/THINK]", "It"],
        ["<|channel|>", "analysis", "x", "<|channel|>", "final", "<|message|>", "It"],
        ["<think>", "a</think>b", "</think>", "It"],
    ],
)
def test_other_blocks(tokens: list[str]) -> None:
    assert thought(tokens).final.text == "It"


def test_a_token_that_begins_in_white_space_belongs_to_the_answer() -> None:
    answer = thought(["<think>", "</think>", "\n\nIt", " is"])
    assert answer.n_reasoning == 2
    assert answer.final.text == "\n\nIt is"


@given(st.lists(st.sampled_from([*TOKENS, "é", " "]), max_size=12), st.booleans())
def test_nothing_is_lost_or_moved(tokens: list[str], opened: bool) -> None:
    answer = thought(["<think>", *tokens] if opened else tokens)
    final = answer.final
    assert final.prompt + final.text == answer.prompt + answer.text
    assert final.token_ids == answer.token_ids
    assert len(final.logprobs) == len(final.token_ids) - final.n_prompt
    for i, (a, b) in enumerate(final.offsets):
        was = answer.offsets[i]
        before = (answer.prompt if i < answer.n_prompt else answer.text)[was[0] : was[1]]
        assert (final.prompt if i < final.n_prompt else final.text)[a:b] == before
    assert final.final is final
