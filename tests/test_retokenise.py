"""Texts from other sources get the tokens that the model would have seen, or are rejected."""

from dataclasses import replace

import pytest
import torch

from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.model import Model
from probemap.models.prompts import end_of_turn_id, make_prompt, prompt_from_text, supplied_prompt, task_prompts
from probemap.models.retokenise import retokenise, retokenise_with_logprobs
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import DataError, Example, Task, TextAnswer
from probemap.tasks.loading import load_task

TASK = Task("t", tuple(Example(f"q{i}", f"What is {i} + 5?", (str(i),)) for i in range(9)), "numbers")


def test_retokenise_with_logprobs_reproduces_the_answers_of_a_real_model(smollm: Model) -> None:
    prompts = task_prompts(smollm, load_task("cities", n=12), "chat")
    options = GenerationOptions(prompt_format="chat", max_new_tokens=24)
    generated = [answer for batch in generate_answers(TransformersEngine(smollm), prompts, options) for answer in batch]
    assert {a.stopped for a in generated} == {True, False}
    pairs = [(dict(prompts)[a.id], TextAnswer(a.id, a.text, a.stopped)) for a in generated]
    retokenised = retokenise_with_logprobs(TransformersEngine(smollm), pairs)
    for expected, answer in zip(generated, retokenised, strict=True):
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
        assert answer.entropies == pytest.approx(expected.entropies, abs=1e-3)
        assert replace(answer, logprobs=expected.logprobs, entropies=expected.entropies) == expected


def test_retokenise_with_logprobs_gives_the_log_probabilities_of_one_pass_over_each_text(chat_model: Model) -> None:
    pairs = [
        (make_prompt(chat_model, TASK, example, "chat"), TextAnswer(example.id, f"Vienna{' 7' * i}"))
        for i, example in enumerate(TASK.examples)
    ]
    for answer in retokenise_with_logprobs(TransformersEngine(chat_model), pairs, batch_size=4):
        with torch.inference_mode():
            logprobs = chat_model.network(torch.tensor([answer.token_ids])).logits[0].log_softmax(-1)
        produced_ids = torch.tensor(answer.produced_ids)[:, None]
        expected = logprobs[answer.n_prompt - 1 : -1].gather(1, produced_ids).squeeze(1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        entropies = torch.special.entr(logprobs[answer.n_prompt - 1 : -1].softmax(-1)).sum(-1)
        assert answer.entropies == pytest.approx(entropies.tolist(), abs=1e-4)
        assert answer.token_ids[-1] == chat_model.tokenizer.eos_token_id == end_of_turn_id(chat_model)
        assert answer.offsets[-1] == (len(answer.text),) * 2


def test_retokenise_with_logprobs_appends_the_end_token_unless_the_text_was_cut_off(chat_model: Model) -> None:
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    cut_off, ended, with_end_token, empty = retokenise_with_logprobs(
        TransformersEngine(chat_model),
        [
            (prompt, TextAnswer("a", "Paris is", stopped=False)),
            (prompt, TextAnswer("b", "Paris is")),
            (prompt, TextAnswer("c", "Paris is<|im_end|>", stopped=False)),
            (prompt, TextAnswer("d", "")),
        ],
    )
    assert (cut_off.stopped, ended.stopped, with_end_token.stopped) == (False, True, True)
    end_id = chat_model.tokenizer.eos_token_id
    assert ended.produced_ids == with_end_token.produced_ids == (*cut_off.produced_ids, end_id)
    assert with_end_token.text == "Paris is"
    assert (empty.text, len(empty.produced_ids), len(empty.logprobs), len(empty.entropies)) == ("", 1, 1, 1)


def test_retokenise_with_logprobs_restores_the_space_after_a_colon(base_model: Model) -> None:
    prompt = make_prompt(base_model, TASK, TASK.examples[0], "qa")
    stripped, unstripped = retokenise_with_logprobs(
        TransformersEngine(base_model), [(prompt, TextAnswer("a", "Paris")), (prompt, TextAnswer("b", " Paris"))]
    )
    assert stripped.text == unstripped.text == " Paris"
    assert stripped.token_ids == unstripped.token_ids
    assert base_model.tokenizer.decode(stripped.token_ids).endswith("A: Paris"), "no token is appended"


def test_prompt_from_text_has_one_beginning_of_text_token(base_model: Model, chat_model: Model) -> None:
    bos = base_model.tokenizer.bos_token
    for text in ("What is it?", f"{bos}What is it?"):
        prompt = prompt_from_text(base_model, text)
        assert prompt.token_ids.count(base_model.tokenizer.bos_token_id) == text.count(bos)
        text_answer = TextAnswer("a", " It is", stopped=False, prompt=text)
        (answer,) = retokenise_with_logprobs(TransformersEngine(base_model), [(prompt, text_answer)])
        assert base_model.tokenizer.decode(answer.token_ids) == f"{text} It is"
        assert answer.offsets[answer.n_prompt][0] == 0
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    assert prompt_from_text(chat_model, prompt.text) == prompt


def test_answers_to_prompts_without_the_chat_template_get_no_end_token(chat_model: Model) -> None:
    plain = prompt_from_text(chat_model, "Q: Where is Lima?\nA:")
    chat = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    reasoning = prompt_from_text(chat_model, f"{chat.text}<think>\n\n</think>\n\n")
    assert (plain.is_chat, chat.is_chat, reasoning.is_chat) == (False, True, True)
    pairs = [(plain, TextAnswer("a", " Peru", prompt=plain.text)), (chat, TextAnswer("b", "Peru", prompt=chat.text))]
    ends = [
        answer.token_ids[-1] == chat_model.tokenizer.eos_token_id
        for answer in retokenise_with_logprobs(TransformersEngine(chat_model), pairs)
    ]
    assert ends == [False, True]


def test_retokenise_rejects_a_text_that_its_tokens_do_not_decode_to(base_model: Model) -> None:
    prompt = make_prompt(base_model, TASK, TASK.examples[0], "none")
    with pytest.raises(
        DataError, match=r"tiny-base does not reproduce the text of 'a': the tokens decode to ' b' instead of '▁b'"
    ):
        retokenise_with_logprobs(TransformersEngine(base_model), [(prompt, TextAnswer("a", " a▁b"))])


def test_retokenise_rejects_a_text_that_exceeds_the_window(chat_model: Model) -> None:
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    with pytest.raises(DataError, match="1 prompts with their texts exceed the context window of tiny-chat"):
        retokenise_with_logprobs(TransformersEngine(chat_model), [(prompt, TextAnswer("a", "x " * 300))])


def test_supplied_token_ids_are_used_up_to_the_end_of_the_text(base_model: Model) -> None:
    tokenizer = base_model.tokenizer
    prompt_ids = tuple(tokenizer("Q: Where is Lima?\nA:")["input_ids"])
    produced = tokenizer(" It is Peru.\nQ: Where", add_special_tokens=False)["input_ids"]
    split = [
        *tokenizer(" It", add_special_tokens=False)["input_ids"],
        *tokenizer("is", add_special_tokens=False)["input_ids"],
    ]
    end = min(base_model.end_ids)
    answers = [
        TextAnswer("a", " It is Peru.", None, prompt_ids=prompt_ids, produced_ids=tuple(produced), max_new_tokens=99),
        TextAnswer("b", " Itis", None, prompt_ids=prompt_ids, produced_ids=(*split, end)),
        TextAnswer("c", " It is", None, prompt_ids=prompt_ids, produced_ids=tuple(produced[:5]), max_new_tokens=5),
    ]
    pairs = [(supplied_prompt(base_model, answer), answer) for answer in answers]
    cut_at_stop_string, own_tokens, cut_off = retokenise_with_logprobs(
        TransformersEngine(base_model), [(p, a) for p, a in pairs if p]
    )
    assert cut_at_stop_string.token_ids[: len(prompt_ids)] == prompt_ids
    assert cut_at_stop_string.text.strip() == "It is Peru."
    assert cut_at_stop_string.produced_ids == tuple(produced[: len(cut_at_stop_string.produced_ids)])
    assert own_tokens.produced_ids == (*split, end)
    assert (cut_at_stop_string.stopped, own_tokens.stopped, cut_off.stopped) == (True, True, False)


def test_supplied_token_ids_may_end_inside_a_character(chat_model: Model) -> None:
    """A server omits such a character from the text, whereas a local model's answer contains U+FFFD."""
    produced = chat_model.tokenizer("ok 🦊", add_special_tokens=False)["input_ids"][:-1]
    prompt = make_prompt(chat_model, TASK, TASK.examples[0], "chat")
    (answer,) = retokenise(chat_model, [(prompt, TextAnswer("a", "ok ", False, produced_ids=tuple(produced)))])
    assert answer.produced_ids == tuple(produced)
    assert answer.text == "ok \ufffd"
