"""Texts from elsewhere get the tokens that the model would have seen, or are refused."""

from dataclasses import replace

import pytest
import torch

from probemap.models.generate import generate_answers
from probemap.models.model import Model
from probemap.models.prompts import end_of_turn_id, make_prompt, prompt_from_text
from probemap.models.retokenize import retokenise_with_logprobs
from probemap.records import DataError, Example, Task, TextAnswer
from probemap.tasks.loading import load_task

TASK = Task("t", tuple(Example(f"q{i}", f"What is {i} + 5?", (str(i),)) for i in range(9)), "numbers")


def test_what_a_real_model_said_itself_comes_back_as_it_was(smollm: Model) -> None:
    task = load_task("cities", n=12)
    prompts = {e.id: make_prompt(smollm, task, e, "chat") for e in task.examples}
    batches = generate_answers(smollm, list(prompts.items()), frame="chat", max_new_tokens=24)
    before = [a for batch in batches for a in batch]
    assert {a.stopped for a in before} == {True, False}
    pairs = [(prompts[a.id], TextAnswer(a.id, a.text, a.stopped)) for a in before]
    for was, now in zip(before, retokenise_with_logprobs(smollm, pairs, chat=True), strict=True):
        assert now.logprobs == pytest.approx(was.logprobs, abs=1e-3)
        assert replace(now, logprobs=was.logprobs) == was


def test_log_probabilities_are_those_of_one_plain_pass(chat_model: Model) -> None:
    pairs = [
        (make_prompt(chat_model, TASK, e, "chat"), TextAnswer(e.id, f"Vienna{' 7' * i}"))
        for i, e in enumerate(TASK.examples)
    ]
    for answer in retokenise_with_logprobs(chat_model, pairs, chat=True, batch_size=4):
        with torch.inference_mode():
            logs = chat_model.network(torch.tensor([answer.token_ids])).logits[0].log_softmax(-1)
        expected = logs[answer.n_prompt - 1 : -1].gather(1, torch.tensor(answer.produced_ids)[:, None]).squeeze(1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        assert answer.token_ids[-1] == chat_model.tokenizer.eos_token_id == end_of_turn_id(chat_model)
        assert answer.offsets[-1] == (len(answer.text),) * 2


def test_an_answer_that_was_cut_off_has_no_end(chat_model: Model) -> None:
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    cut, ended, written, empty = retokenise_with_logprobs(
        chat_model,
        [
            (prompt, TextAnswer("a", "Paris is", stopped=False)),
            (prompt, TextAnswer("b", "Paris is")),
            (prompt, TextAnswer("c", "Paris is<|im_end|>", stopped=False)),
            (prompt, TextAnswer("d", "")),
        ],
        chat=True,
    )
    assert (cut.stopped, ended.stopped, written.stopped) == (False, True, True)
    assert ended.produced_ids == written.produced_ids == (*cut.produced_ids, chat_model.tokenizer.eos_token_id)
    assert written.text == "Paris is"
    assert (empty.text, len(empty.produced_ids), len(empty.logprobs)) == ("", 1, 1)


def test_a_trimmed_answer_gets_its_space_back_where_the_prompt_ends_with_a_colon(base_model: Model) -> None:
    prompt = make_prompt(base_model, TASK, TASK.examples[0], "qa")
    trimmed, whole = retokenise_with_logprobs(
        base_model, [(prompt, TextAnswer("a", "Paris")), (prompt, TextAnswer("b", " Paris"))], chat=False
    )
    assert trimmed.text == whole.text == " Paris"
    assert trimmed.token_ids == whole.token_ids
    assert base_model.tokenizer.decode(trimmed.token_ids).endswith("A: Paris"), "nothing is added behind it"


def test_a_prompt_as_given_is_not_begun_twice(base_model: Model, chat_model: Model) -> None:
    begins = base_model.tokenizer.bos_token
    for text in ("What is it?", f"{begins}What is it?"):
        prompt = prompt_from_text(base_model, text)
        assert prompt.token_ids.count(base_model.tokenizer.bos_token_id) == text.count(begins)
        (answer,) = retokenise_with_logprobs(
            base_model, [(prompt, TextAnswer("a", " It is", stopped=False, prompt=text))], chat=False
        )
        assert base_model.tokenizer.decode(answer.token_ids) == f"{text} It is"
        assert answer.offsets[answer.n_prompt][0] == 0
    whole = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    assert prompt_from_text(chat_model, whole.text) == whole


def test_a_text_that_the_tokenizer_does_not_give_back_is_refused(base_model: Model) -> None:
    prompt = make_prompt(base_model, TASK, TASK.examples[0], "none")
    with pytest.raises(DataError, match=r"tiny-base does not give the text of 'a' back: ' b' for '▁b'"):
        retokenise_with_logprobs(base_model, [(prompt, TextAnswer("a", " a▁b"))], chat=False)


def test_a_text_that_does_not_fit_the_window_is_refused(chat_model: Model) -> None:
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    with pytest.raises(DataError, match="1 prompts with their texts do not fit the window of tiny-chat"):
        retokenise_with_logprobs(chat_model, [(prompt, TextAnswer("a", "x " * 300))], chat=True)
