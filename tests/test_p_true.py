"""p(True) compares the model's probabilities of two letters, independent of the batch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from probemap.models.model import Model
from probemap.models.p_true import p_true_question, score_p_true
from probemap.models.prefix import PromptBatch, next_token
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import DataError, Example, ModelError

PAIRS = [
    (Example("v", "In which country is Vienna?", ("Austria",)), "Vienna is in Austria."),
    (Example("p", "In which country is Paris?", ("France",)), "Austria"),
    (Example("b", "What is {a} + {}?", ("12",)), "{b} is { not } {{12}}"),
    (Example("e", "What is 7?", ("7",)), ""),
    (Example("c", "Which?", ("7",), choices=("7", "12"), context="7 + 5 = 12."), "東京 🗼"),
]
TAIL = "\nIs the proposed answer:\n (A) True\n (B) False\nThe proposed answer is:"


LETTERS = {"tiny-chat": ("A", "B"), "SmolLM2-135M-Instruct.Q4_1": ("A", "B"), "tiny-base": ("A", "<0x42>")}
"""Tokens of the letters; B is a byte token in the small vocabulary of the base model."""


def reference_p_true(model: Model, text: str, special: bool) -> float:
    """Return P(A) / (P(A) + P(B)) from one forward pass over one text, with all logits."""
    tokens = model.tokenizer
    ids = tokens(text, add_special_tokens=special)["input_ids"]
    with torch.inference_mode():
        probabilities = model.network(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    a, b = (probabilities[tokens.convert_tokens_to_ids(letter)].item() for letter in LETTERS[model.label])
    return float(a / (a + b))


def test_p_true_question_contains_context_choices_and_braces() -> None:
    assert p_true_question(*PAIRS[4]) == (
        f"7 + 5 = 12.\n\nQuestion: Which?\nChoices: 7, 12\nProposed answer: 東京 🗼{TAIL}"
    )
    assert (
        p_true_question(*PAIRS[2])
        == f"Question: What is {{a}} + {{}}?\nProposed answer: {{b}} is {{ not }} {{{{12}}}}{TAIL}"
    )
    assert (
        p_true_question(PAIRS[0][0], "\n Austria \n")
        == f"Question: In which country is Vienna?\nProposed answer: Austria{TAIL}"
    )


@pytest.mark.parametrize("fixture", ["chat_model", "base_model"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_score_p_true_equals_the_probability_of_a_single_text(
    fixture: str, batch_size: int, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(fixture)
    expected = []
    for example, answer in PAIRS:
        text = p_true_question(example, answer)
        if fixture == "chat_model":
            text = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        expected.append(reference_p_true(model, f"{text} (", fixture == "base_model"))
    calls: list[tuple[int, int]] = []
    p_true = score_p_true(
        TransformersEngine(model),
        PAIRS,
        batch_size=batch_size,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert p_true.dtype == np.float64
    assert p_true == pytest.approx(expected, abs=1e-5)
    assert np.ptp(p_true) > 1e-3, "the values of different texts differ"
    assert calls == [(min(i + batch_size, 5), 5) for i in range(0, 5, batch_size)]


@pytest.mark.parametrize("fixture", ["chat_model", "base_model"])
def test_score_p_true_has_one_beginning_of_text_token(fixture: str, request: pytest.FixtureRequest) -> None:
    """A beginning-of-text token is added to plain text, but not to a chat template, fixture writes its own."""
    model: Model = request.getfixturevalue(fixture)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.tokenizer.name_or_path)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    assert tokenizer("7")["input_ids"][0] == tokenizer.bos_token_id
    p_true = score_p_true(TransformersEngine(replace(model, tokenizer=tokenizer)), PAIRS)
    plain = score_p_true(TransformersEngine(model), PAIRS)
    if fixture == "chat_model":
        assert p_true.tolist() == plain.tolist()
    else:
        expected = [reference_p_true(model, f"{bos}{p_true_question(*pair)} (", False) for pair in PAIRS]
        assert p_true == pytest.approx(expected, abs=1e-5)
        assert np.abs(p_true - plain).max() > 1e-4


def test_score_p_true_of_no_pairs_is_empty(base_model: Model) -> None:
    assert score_p_true(TransformersEngine(base_model), []).tolist() == []


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (transformers.Gemma2Config, {"final_logit_softcapping": 0.5, "head_dim": 8}),
        (transformers.GraniteConfig, {"logits_scaling": 7.0}),
        (transformers.CohereConfig, {"logit_scale": 3.0}),
    ],
)
def test_score_p_true_applies_what_a_model_does_to_its_logits(
    config: type[transformers.PretrainedConfig], options: dict[str, float], base_model: Model
) -> None:
    """Soft-capping and scaling come after the output embeddings, and change the ratio of two tokens."""
    model_config = config(
        vocab_size=len(base_model.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=0,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.AutoModelForCausalLM.from_config(model_config).eval()
    model = replace(base_model, network=network)
    expected = [reference_p_true(model, f"{p_true_question(*pair)} (", True) for pair in PAIRS]
    assert score_p_true(TransformersEngine(model), PAIRS) == pytest.approx(expected, abs=1e-5)
    assert all(abs(value - 0.5) > 1e-4 for value in expected)


def test_score_p_true_with_a_token_of_bracket_and_letter_reads_one_token_earlier(chat_model: Model) -> None:
    """If " (A" is one token, the model never sees " (" before a letter, so both are compared after the colon."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model.tokenizer.name_or_path)
    tokenizer.chat_template = None
    tokenizer.add_tokens([" (A", " (B"])
    network = transformers.AutoModelForCausalLM.from_pretrained(chat_model.tokenizer.name_or_path).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = replace(chat_model, tokenizer=tokenizer, network=network)
    ids = tokenizer(p_true_question(*PAIRS[0]))["input_ids"]
    with torch.inference_mode():
        logits = network(torch.tensor([ids])).logits[0, -1].double()
    a, b = (logits[tokenizer.convert_tokens_to_ids(letter)].exp().item() for letter in (" (A", " (B"))
    assert score_p_true(TransformersEngine(model), PAIRS[:1]) == pytest.approx([a / (a + b)], abs=1e-5)
    tokenizer.add_tokens(["wer is: (B"])
    network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with pytest.raises(ModelError, match=r"does not encode A and B after .* as two single tokens"):
        score_p_true(TransformersEngine(model), PAIRS[:1])


def test_score_p_true_rejects_a_text_that_exceeds_the_window(base_model: Model) -> None:
    long = (Example("long", "What is " + "7 + " * 150 + "7?", ("1",)), "12")
    with pytest.raises(
        DataError, match=r"1 questions exceed the context window of tiny-base \(256 tokens, .* 'long' \("
    ):
        score_p_true(TransformersEngine(base_model), [PAIRS[0], long])


def test_score_p_true_rejects_logits_that_are_not_finite(base_model: Model) -> None:
    network = transformers.AutoModelForCausalLM.from_pretrained(base_model.tokenizer.name_or_path).eval()
    with torch.no_grad():
        network.get_output_embeddings().weight[base_model.tokenizer.convert_tokens_to_ids("A")] = torch.nan
    with pytest.raises(ModelError, match="infinite or NaN in float32"):
        score_p_true(TransformersEngine(replace(base_model, network=network)), PAIRS)


def test_score_p_true_leaves_the_model_unchanged(base_model: Model) -> None:
    score_p_true(TransformersEngine(base_model), PAIRS)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.inference_mode():
        assert base_model.network(ids).logits.shape[:2] == (2, 3)


def test_score_p_true_reads_the_letter_of_a_real_model(smollm: Model) -> None:
    """The model is too small to order these pairs, but its values are those of the next token."""
    capitals = [("Vienna", "Austria"), ("Paris", "France"), ("Rome", "Italy"), ("Tokyo", "Japan"), ("Cairo", "Egypt")]
    examples = [Example(city, f"In which country is the city of {city}?", (country,)) for city, country in capitals]
    pairs = [(e, text) for e in examples for text in (f"{e.id} is in {e.answers[0]}.", "Peru")]
    values = score_p_true(TransformersEngine(smollm), pairs)
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    for pair, value in zip(pairs, values, strict=True):
        text = f"{system}<|im_start|>user\n{p_true_question(*pair)}<|im_end|>\n<|im_start|>assistant\n ("
        assert value == pytest.approx(reference_p_true(smollm, text, False), abs=1e-5)
    assert ((values > 0.2) & (values < 0.8)).all()
    assert np.ptp(values) > 0.02
    reply = smollm.tokenizer(text + "A)", add_special_tokens=False)["input_ids"][-3:]
    assert smollm.tokenizer.convert_ids_to_tokens(reply) == ["Ġ(", "A", ")"]


def test_score_p_true_halves_a_batch_and_names_a_text_that_exceeds_the_memory(
    chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, max_rows = score_p_true(TransformersEngine(chat_model), PAIRS), 2

    def scarce(model: Model, batch: PromptBatch) -> Any:
        if len(batch.input_ids) > max_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return next_token(model, batch)

    monkeypatch.setattr("probemap.models.transformers_engine.next_token", scarce)
    messages: list[str] = []
    assert score_p_true(TransformersEngine(chat_model), PAIRS, log=messages.append) == pytest.approx(expected, abs=1e-5)
    assert messages == [f"a batch of {n} rows does not fit in memory; retrying with {n // 2}" for n in (5, 3)]
    max_rows = 0
    with pytest.raises(ModelError, match=r"'b' \(108 tokens\) does not fit in the memory"):
        score_p_true(TransformersEngine(chat_model), PAIRS)
