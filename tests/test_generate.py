"""Generated answers contain what the model received and generated, independent of the batch."""

from dataclasses import replace

import pytest
import torch
from conftest import make_answer

from probemap.grading.llm import locating_task, model_judge, response_locator
from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.model import Model
from probemap.models.prompts import PromptFormat, make_prompt, task_prompts
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer, Example, Task
from probemap.tasks.loading import load_task

TASK = Task(
    "t",
    tuple(Example(f"q{i}", f"What is {i}?" + " Please say" * (i % 4), (str(i),)) for i in range(11)),
    "numbers",
    shots=(("What is 0?", "0"),),
)


def options(prompt_format: PromptFormat, batch_size: int, max_new_tokens: int = 12) -> GenerationOptions:
    return GenerationOptions(prompt_format=prompt_format, max_new_tokens=max_new_tokens, batch_size=batch_size)


def answers_by_id(model: Model, options: GenerationOptions, task: Task = TASK) -> dict[str, Answer]:
    prompts = [(e.id, make_prompt(model, task, e, options.prompt_format)) for e in task.examples]
    return {
        answer.id: answer for batch in generate_answers(TransformersEngine(model), prompts, options) for answer in batch
    }


@pytest.mark.parametrize(
    ("prompt_format", "fixture"), [("chat", "chat_model"), ("qa", "base_model"), ("none", "chat_model")]
)
def test_generate_answers_is_independent_of_the_batch_size(
    prompt_format: PromptFormat, fixture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(fixture)
    singly, batched = (answers_by_id(model, options(prompt_format, batch_size)) for batch_size in (1, 8))
    assert {i: a.token_ids for i, a in singly.items()} == {i: a.token_ids for i, a in batched.items()}
    for i, answer in singly.items():
        assert answer.logprobs == pytest.approx(batched[i].logprobs, abs=1e-4)


def test_generate_answers_gives_the_ids_and_logprobs_of_one_teacher_forced_pass(chat_model: Model) -> None:
    for answer in answers_by_id(chat_model, options("chat", 4)).values():
        with torch.inference_mode():
            logits = chat_model.network(torch.tensor([answer.token_ids])).logits[0].log_softmax(-1)
        before = logits[answer.n_prompt - 1 : -1]
        assert before.argmax(-1).tolist() == list(answer.produced_ids)
        expected = before.gather(1, torch.tensor(answer.produced_ids)[:, None]).squeeze(1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_generate_answers_samples_with_its_seed_and_not_the_global_generator(chat_model: Model) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seed_1, seed_2 = (replace(options("chat", 4), temperature=1.0, seed=seed) for seed in (1, 2))
    answers = answers_by_id(chat_model, seed_1)
    assert torch.equal(torch.rand(3), expected)
    assert answers == answers_by_id(chat_model, seed_1)
    assert answers != answers_by_id(chat_model, seed_2)


def test_generate_answers_continues_with_the_remaining_batches(chat_model: Model) -> None:
    prompts = task_prompts(chat_model, TASK, "chat")
    sampled = replace(options("chat", 4, 6), temperature=1.0)
    batches = list(generate_answers(TransformersEngine(chat_model), prompts, sampled))
    assert len(batches) == 3
    assert list(generate_answers(TransformersEngine(chat_model), prompts, sampled, batch_numbers=[1, 2])) == batches[1:]


def test_make_prompt_has_template_shots_and_one_beginning(chat_model: Model, base_model: Model) -> None:
    example = TASK.examples[0]
    chat = make_prompt(chat_model, TASK, example, "chat")
    assert chat.text == (
        "<|im_start|>user\nWhat is 0?<|im_end|>\n<|im_start|>assistant\n0<|im_end|>\n"
        "<|im_start|>user\nWhat is 0?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.token_ids.count(chat_model.tokenizer.bos_token_id) == 4
    assert "".join(chat.text[a:b] for a, b in chat.offsets) == chat.text
    qa = make_prompt(base_model, TASK, example, "qa")
    assert qa.text == "Q: What is 0?\nA: 0\n\nQ: What is 0?\nA:"
    assert qa.token_ids.count(base_model.tokenizer.bos_token_id) <= 1


def test_generate_answers_keeps_the_end_token_in_the_ids_but_not_in_the_text(smollm: Model) -> None:
    task = load_task("cities", n=6, seed=3)
    ended = [a for a in answers_by_id(smollm, options("chat", 6, 40), task).values() if a.stopped]
    assert ended
    for answer in ended:
        assert answer.token_ids[-1] == smollm.tokenizer.eos_token_id
        assert answer.offsets[-1] == (len(answer.text), len(answer.text))
        assert "<|im_end|>" not in answer.text
        assert answer.text == smollm.tokenizer.decode(answer.produced_ids[:-1])
        assert len(answer.logprobs) == len(answer.produced_ids) == len(answer.token_ids) - answer.n_prompt


def test_generate_answers_is_independent_of_the_batch_size_with_a_real_model(smollm: Model) -> None:
    task = load_task("cities", n=32, seed=1)
    singly, batched = (answers_by_id(smollm, options("chat", size, 16), task) for size in (1, 32))
    assert {i: a.token_ids for i, a in singly.items()} == {i: a.token_ids for i, a in batched.items()}


def test_newline_ids_are_the_tokens_with_a_line_break(chat_model: Model, base_model: Model) -> None:
    for model in (chat_model, base_model):
        expected = {i for i in range(len(model.tokenizer)) if "\n" in model.tokenizer.decode([i])}
        assert model.newline_ids == expected - model.end_ids
        assert model.newline_ids
        assert model.newline_ids is model.newline_ids, "computed once"


def test_a_real_model_chooses_exact_answers(smollm: Model) -> None:
    """Of two names, the small model chooses the one for which the question asks; a refusal has no candidates."""
    pairs = [
        ("In which country is Vienna?", "Vienna is the\ncapital of Austria."),
        ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci in Florence."),
        ("Who wrote Emma?", "I do not know who wrote it."),
    ]
    examples = [Example(str(i), question, ("",)) for i, (question, _) in enumerate(pairs)]
    answers = [make_answer(text, [text], ["?"], id_=e.id) for e, (_, text) in zip(examples, pairs, strict=True)]
    judge = model_judge(TransformersEngine(smollm))
    (batch,) = judge.respond(locating_task(judge, examples, answers))
    assert [response for _, response in batch] == ["25:32 Austria", "29:46 Leonardo da Vinci", "NO ANSWER"]
    locator = response_locator(judge, {pairs[int(id_)]: response for id_, response in batch})
    assert [locator(question, text) for question, text in pairs] == [(25, 32), (29, 46), None]
