"""`ask` answers the questions of a task in their order."""

from dataclasses import replace

import pytest

import probemap
from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.ask import ask
from probemap.models.model import Model
from probemap.models.prompts import task_prompts
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import DataError, Example, ModelError, Task

TASK = Task(
    "t",
    tuple(Example(f"q{i}", f"What is {i}?" + " Please say" * (i % 4), (str(i),)) for i in range(11)),
    "numbers",
    max_new_tokens=6,
)


def test_ask_returns_the_answers_of_generate_answers_in_the_order_of_the_questions(chat_model: Model) -> None:
    calls: list[tuple[int, int]] = []
    answers = probemap.ask(
        chat_model,
        TASK,
        batch_size=4,
        temperature=1.0,
        seed=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [answer.id for answer in answers] == [example.id for example in TASK.examples]
    assert calls == [(4, 11), (8, 11), (11, 11)]
    options = GenerationOptions(prompt_format="chat", max_new_tokens=6, batch_size=4, temperature=1.0, seed=3)
    batches = list(generate_answers(TransformersEngine(chat_model), task_prompts(chat_model, TASK, "chat"), options))
    assert [a.id for batch in batches for a in batch] != [a.id for a in answers], "batches are sorted by length"
    assert {a.id: a for batch in batches for a in batch} == {a.id: a for a in answers}


def test_ask_chooses_the_prompt_format_by_the_chat_template(chat_model: Model, base_model: Model) -> None:
    assert ask(chat_model, TASK)[0].prompt == "<|im_start|>user\nWhat is 0?<|im_end|>\n<|im_start|>assistant\n"
    assert ask(base_model, TASK)[0].prompt == "Q: What is 0?\nA:"
    assert ask(chat_model, TASK, prompt_format="none")[0].prompt == "What is 0?"
    with pytest.raises(ModelError, match="tiny-base has no chat template"):
        ask(base_model, TASK, prompt_format="chat")


def test_ask_of_no_questions_is_empty(chat_model: Model) -> None:
    assert ask(chat_model, replace(TASK, examples=())) == []


def test_ask_rejects_repeated_ids(chat_model: Model) -> None:
    repeated = replace(TASK, examples=(*TASK.examples, TASK.examples[2]))
    with pytest.raises(
        DataError,
        match="ids must be unique, but 1 belong to more than one question: q2\nhint: give each question its own",
    ):
        ask(chat_model, repeated)


def test_ask_rejects_a_prompt_that_exceeds_the_window(chat_model: Model) -> None:
    too_long = Example("long", "What is " + "7 + " * 150 + "7?", ("1",))
    with pytest.raises(
        DataError, match=r"1 questions exceed the context window of tiny-chat \(256 tokens, .* 'long' \("
    ):
        ask(chat_model, replace(TASK, examples=(*TASK.examples, too_long)))
