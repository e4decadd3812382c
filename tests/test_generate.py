"""Generated answers contain what the model received and generated, independent of the batch."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from conftest import make_answer

from probemap.grading.llm import locating_task, model_judge, response_locator
from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.engine import GenerationBatch, GenerationRequest
from probemap.models.generate import generate_batch
from probemap.models.logits import logprobs_and_entropies
from probemap.models.model import Model
from probemap.models.prompts import Prompt, PromptFormat, make_prompt, task_prompts
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer, Example, ModelError, Task
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


def test_generate_answers_gives_the_ids_logprobs_and_entropies_of_one_teacher_forced_pass(chat_model: Model) -> None:
    for answer in answers_by_id(chat_model, options("chat", 4)).values():
        with torch.inference_mode():
            logits = chat_model.network(torch.tensor([answer.token_ids])).logits[0].log_softmax(-1)
        before = logits[answer.n_prompt - 1 : -1]
        assert before.argmax(-1).tolist() == list(answer.produced_ids)
        expected = before.gather(1, torch.tensor(answer.produced_ids)[:, None]).squeeze(1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
        entropies = torch.special.entr(before.softmax(-1)).sum(-1)
        assert answer.entropies == pytest.approx(entropies.tolist(), abs=1e-4)
        assert entropies.min() > 0.1


def test_entropies_are_those_of_temperature_1_whatever_the_temperature(chat_model: Model) -> None:
    for answer in answers_by_id(chat_model, replace(options("chat", 4), temperature=3.0)).values():
        with torch.inference_mode():
            logits = chat_model.network(torch.tensor([answer.token_ids])).logits[0][answer.n_prompt - 1 : -1]
        expected = torch.special.entr(logits.softmax(-1)).sum(-1)
        assert answer.entropies == pytest.approx(expected.tolist(), abs=1e-4)


def test_entropies_of_certain_equal_and_impossible_tokens() -> None:
    certain, equal, impossible = [1000.0, 0.0, 0.0, 0.0], [7.0] * 4, [3.0, 3.0, -torch.inf, -torch.inf]
    logits = torch.tensor([certain, equal, impossible], dtype=torch.bfloat16)
    logprobs, entropies = logprobs_and_entropies(logits, torch.tensor([0, 3, 1]))
    assert entropies.tolist() == pytest.approx([0.0, math.log(4), math.log(2)], abs=1e-6)
    assert logprobs.tolist() == pytest.approx([0.0, -math.log(4), -math.log(2)], abs=1e-6)
    assert logprobs.dtype == entropies.dtype == torch.float32
    assert (entropies >= 0).all()
    logprobs, _ = logprobs_and_entropies(torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0]]), torch.tensor([1, 1]))
    assert not logprobs.isfinite().any(), "the engines raise an error for infinite log-probabilities and NaN"


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
        assert len(answer.entropies) == len(answer.produced_ids)


def test_generate_answers_is_independent_of_the_batch_size_with_a_real_model(smollm: Model) -> None:
    task = load_task("cities", n=32, seed=1)
    batched = answers_by_id(smollm, options("chat", 32), task)
    for example in task.examples[::8]:
        (alone,) = answers_by_id(smollm, options("chat", 1), replace(task, examples=(example,))).values()
        assert alone.token_ids == batched[alone.id].token_ids


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


def prompt_of(token_ids: Iterable[int]) -> Prompt:
    ids = tuple(token_ids)
    return Prompt("", ids, ((0, 0),) * len(ids))


def shapes_of_passes(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list to which each forward pass adds its number of rows and of tokens per row."""
    shapes: list[tuple[int, int]] = []
    forward = model.network.base_model.forward

    def recorded(*args: Any, **kw: Any) -> Any:
        shapes.append(tuple(kw["input_ids"].shape))
        return forward(*args, **kw)

    monkeypatch.setattr(model.network.base_model, "forward", recorded)
    return shapes


def test_prompts_that_share_tokens_are_processed_once_with_the_same_result(
    chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tuple(range(10, 40))
    prompts = [(*shared, *range(50 + n, 50 + 2 * n)) for n in (3, 9, 5)]
    requests = [GenerationRequest(f"q{i}", prompt_of(ids), 6) for i, ids in enumerate(prompts)]
    expected = [g for r in requests for g in generate_batch(chat_model, [r], stop_ids=frozenset())]
    shapes = shapes_of_passes(chat_model, monkeypatch)
    generations = list(TransformersEngine(chat_model).generate([GenerationBatch(requests)], stop_ids=frozenset()))
    assert [g.token_ids for g in generations] == [g.token_ids for g in expected]
    for generation, alone in zip(generations, expected, strict=True):
        assert generation.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    assert shapes[-7:] == [(1, 30), (3, 9), *[(3, 1)] * 5], "the shared tokens once, the others in a batch"


def test_repeated_prompts_are_processed_once(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [tuple(range(10, 22)), tuple(range(30, 37))]
    requests = [GenerationRequest(f"q{i}", prompt_of(ids[i // 5]), 4) for i in range(10)]
    expected = [generate_batch(chat_model, [requests[i]], stop_ids=frozenset())[0].token_ids for i in (0, 5)]
    shapes = shapes_of_passes(chat_model, monkeypatch)
    generations = generate_batch(chat_model, requests, stop_ids=frozenset())
    assert [g.token_ids for g in generations] == [expected[0]] * 5 + [expected[1]] * 5
    assert shapes == [(2, 11), *[(10, 1)] * 4], "each prompt once, except for its last token"


def test_answers_that_have_ended_are_removed_from_the_batch(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [2, 2, 3, 12, 5, 5, 5, 9]
    prompts = [prompt_of(range(10 + i, 16 + 2 * i)) for i in range(len(limits))]
    requests = [GenerationRequest(f"q{i}", p, limit) for i, (p, limit) in enumerate(zip(prompts, limits, strict=True))]
    expected = [generate_batch(chat_model, [request], stop_ids=frozenset())[0] for request in requests]
    shapes = shapes_of_passes(chat_model, monkeypatch)
    generations = generate_batch(chat_model, requests, stop_ids=frozenset())
    assert [g.token_ids for g in generations] == [g.token_ids for g in expected]
    assert [len(g.token_ids) for g in generations] == limits
    for generation, alone in zip(generations, expected, strict=True):
        assert generation.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    assert [rows for rows, _ in shapes] == [8, 8, 6, 5, 5, 2, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(base_model: Model, temperature: float) -> None:
    network = transformers.AutoModelForCausalLM.from_pretrained(base_model.tokenizer.name_or_path).eval()
    with torch.no_grad():
        network.get_output_embeddings().weight[7] = torch.nan
    requests = [GenerationRequest("q", prompt_of(range(20, 26)), 3, temperature)]
    with pytest.raises(ModelError, match=r"the logits of .* are infinite or NaN in float32"):
        generate_batch(replace(base_model, network=network), requests, stop_ids=frozenset())
