"""What is kept is what the model saw and produced, the same in any batch."""

import pytest
import torch
from conftest import make_answer

from probemap.grading.llm import extract_locator, extraction_task, model_judge
from probemap.models.generate import generate_answers
from probemap.models.model import Model
from probemap.models.prompts import PromptFormat, make_prompt
from probemap.records import Answer, Example, Task
from probemap.tasks.loading import load_task

TASK = Task(
    "t",
    tuple(Example(f"q{i}", f"What is {i}?" + " Please say" * (i % 4), (str(i),)) for i in range(11)),
    "numbers",
    shots=(("What is 0?", "0"),),
)


def answers(
    model: Model, frame: PromptFormat, batch_size: int, task: Task = TASK, tokens: int = 12, **kw: float
) -> dict[str, Answer]:
    prompts = [(e.id, make_prompt(model, task, e, frame)) for e in task.examples]
    found = generate_answers(
        model,
        prompts,
        frame=frame,
        max_new_tokens=tokens,
        batch_size=batch_size,
        **kw,  # type: ignore[arg-type]
    )
    return {a.id: a for batch in found for a in batch}


@pytest.mark.parametrize(("frame", "which"), [("chat", "chat_model"), ("qa", "base_model"), ("none", "chat_model")])
def test_any_batch_size_gives_the_same_answers(frame: PromptFormat, which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    one, many = answers(model, frame, 1), answers(model, frame, 8)
    assert {i: a.token_ids for i, a in one.items()} == {i: a.token_ids for i, a in many.items()}
    for i, answer in one.items():
        assert answer.logprobs == pytest.approx(many[i].logprobs, abs=1e-4)


def test_greedy_ids_and_logprobs_are_those_of_one_teacher_forced_pass(chat_model: Model) -> None:
    for answer in answers(chat_model, "chat", 4).values():
        with torch.inference_mode():
            logits = chat_model.network(torch.tensor([answer.token_ids])).logits[0].log_softmax(-1)
        before = logits[answer.n_prompt - 1 : -1]
        assert before.argmax(-1).tolist() == list(answer.produced_ids)
        expected = before.gather(1, torch.tensor(answer.produced_ids)[:, None]).squeeze(1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_sampling_is_seeded_and_leaves_the_global_generator_alone(chat_model: Model) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = answers(chat_model, "chat", 4, temperature=1.0, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first == answers(chat_model, "chat", 4, temperature=1.0, seed=1)
    assert first != answers(chat_model, "chat", 4, temperature=1.0, seed=2)


def test_a_resumed_plan_gives_the_remaining_batches(chat_model: Model) -> None:
    prompts = [(e.id, make_prompt(chat_model, TASK, e, "chat")) for e in TASK.examples]
    whole = list(generate_answers(chat_model, prompts, frame="chat", max_new_tokens=6, batch_size=4, temperature=1.0))
    rest = list(
        generate_answers(
            chat_model, prompts, frame="chat", max_new_tokens=6, batch_size=4, temperature=1.0, numbers=[1, 2]
        )
    )
    assert rest == whole[1:]
    assert len(whole) == 3


def test_prompts_carry_template_shots_and_one_beginning(chat_model: Model, base_model: Model) -> None:
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


def test_the_end_token_is_kept_in_the_ids_and_left_out_of_the_text(smollm: Model) -> None:
    task = load_task("cities", n=6, seed=3)
    ended = [a for a in answers(smollm, "chat", 6, task, tokens=40).values() if a.stopped]
    assert ended
    for answer in ended:
        assert answer.token_ids[-1] == smollm.tokenizer.eos_token_id
        assert answer.offsets[-1] == (len(answer.text), len(answer.text))
        assert "<|im_end|>" not in answer.text
        assert answer.text == smollm.tokenizer.decode(answer.produced_ids[:-1])
        assert len(answer.logprobs) == len(answer.produced_ids) == len(answer.token_ids) - answer.n_prompt


def test_the_real_model_answers_alike_in_batches_of_1_and_32(smollm: Model) -> None:
    task = load_task("cities", n=32, seed=1)
    one, many = (answers(smollm, "chat", size, task, tokens=16) for size in (1, 32))
    assert {i: a.token_ids for i, a in one.items()} == {i: a.token_ids for i, a in many.items()}


def test_a_model_can_be_asked_for_the_exact_answer(smollm: Model) -> None:
    """The small model copies well enough from plain sentences, and what it makes up is not taken for a copy."""
    pairs = [
        ("In which country is Vienna?", "Vienna is the\ncapital of Austria."),
        ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci in Florence."),
        ("Who wrote Emma?", "I do not know who wrote it."),
    ]
    examples = [Example(str(i), question, ("",)) for i, (question, _) in enumerate(pairs)]
    said = [make_answer(text, [text], ["?"], id_=e.id) for e, (_, text) in zip(examples, pairs, strict=True)]
    (batch,) = model_judge(smollm).respond(extraction_task(examples, said))
    find = extract_locator({pairs[int(id_)]: reply for id_, reply in batch})
    found = [find([])(question, text) for question, text in pairs]
    copied = [text[span[0] : span[1]] if span else None for (_, text), span in zip(pairs, found, strict=True)]
    assert copied == ["Austria", "Leonardo da Vinci", None]
