"""Tokenizers without offsets, end or padding token, with ids beyond the embedding, or with normalisation."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import CHAT_TEMPLATE, byte_level_tokenizer
from odd_models import QUESTION, tiny_model
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

from probemap.models.ask import ask
from probemap.models.decoding import offsets_in
from probemap.models.forward import check_site
from probemap.models.model import Model
from probemap.models.prompts import make_prompt, prompt_from_text, tokenise
from probemap.models.retokenise import retokenise, retokenise_with_logprobs
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import DataError, Example, Task, TextAnswer
from probemap.runs.answer_worker import make_worker
from probemap.runs.options import AnswerOptions

EXAMPLES = (Example("a", QUESTION, ("Austria",)), Example("b", f"{QUESTION} Or is it Österreich?", ("Austria",)))
TASK = Task("t", EXAMPLES, "open", max_new_tokens=3)


def tokenizer_without(*names: str) -> Any:
    """Return a byte-level tokenizer that names no token for the given purposes, e.g. ``eos_token``."""
    tokenizer = byte_level_tokenizer()
    for name in names:
        setattr(tokenizer, name, None)
    return tokenizer


def byt5() -> Model:
    """Return a model with a tokenizer in Python, which knows no offsets and ends every text with ``</s>``."""
    tokenizer = transformers.ByT5Tokenizer()
    config = transformers.GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2, n_positions=256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.GPT2LMHeadModel(config).eval()
    network.generation_config = transformers.GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    return Model("byt5", "1", network, tokenizer)


def test_tokenizer_without_offsets_is_aligned_by_its_decoder() -> None:
    """As reported in transformers#9056 and QwenLM/Qwen#743."""
    model = byt5()
    prompt = prompt_from_text(model, "Is Ö 1?")
    assert prompt.offsets == ((0, 1), (1, 2), (2, 3), (3, 4), (3, 4), (4, 5), (5, 6), (6, 7))
    assert prompt.token_ids[-1] != model.tokenizer.eos_token_id, "the model continues the prompt"
    answers = ask(model, TASK, prompt_format="qa")
    assert [len(answer.produced_ids) <= 3 for answer in answers] == [True, True]
    (answer,) = retokenise_with_logprobs(TransformersEngine(model), [(prompt, TextAnswer("a", "Österreich"))])
    assert answer.token_texts == (" ", "Ö", "", *"sterreich")
    assert answer.offsets[answer.n_prompt :][:4] == ((0, 1), (1, 2), (1, 2), (2, 3))


class PiecesOfText:
    """A tokenizer of which token `i` decodes to the `i`-th piece."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.all_special_ids = [i for i, piece in enumerate(pieces) if piece == "<s>"]

    def decode(self, token_ids: list[int], **options: Any) -> str:
        return "".join(self.pieces[i] for i in token_ids)


@pytest.mark.parametrize(
    ("pieces", "text", "expected"),
    [
        (["It", " is"], "It is", [(0, 2), (2, 5)]),
        (["<s>", "It", " is"], "It is", [(0, 0), (0, 2), (2, 5)]),
        (["It", " is", " so"], "It  is so", [(0, 2), (2, 6), (6, 9)]),
        (["it", " is"], "It is", [(0, 2), (2, 5)]),
        (["<s>", "Is", " it"], "Is it", [(0, 0), (0, 2), (2, 5)]),
        (["\u00d6", "sterreich"], "O\u0308sterreich", [(0, 0), (2, 11)]),
    ],
)
def test_offsets_in_text_that_the_tokens_do_not_quite_decode_to(
    pieces: list[str], text: str, expected: list[tuple[int, int]]
) -> None:
    assert offsets_in(PiecesOfText(*pieces), range(len(pieces)), text) == expected


def test_empty_offsets_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As reported in tokenizers#1553 for Llama 3."""
    model = tiny_model(byte_level_tokenizer())
    expected = tokenise(model, "7 + 5 = 12", add_special_tokens=False)
    original = type(model.tokenizer).__call__

    def without_widths(self: Any, *args: Any, **options: Any) -> Any:
        encoding = original(self, *args, **options)
        if "offset_mapping" in encoding:
            encoding["offset_mapping"] = [(start, start) for start, _ in encoding["offset_mapping"]]
        return encoding

    monkeypatch.setattr(type(model.tokenizer), "__call__", without_widths)
    assert tokenise(model, "7 + 5 = 12", add_special_tokens=False) == expected


def test_prompt_does_not_end_with_an_end_token() -> None:
    """As reported in h2ogpt#30: tokenizers with ``add_eos_token``."""
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 0), ("<|im_end|>", 1)]
    )
    prompt = make_prompt(tiny_model(tokenizer), TASK, EXAMPLES[0], "none")
    assert tokenizer.decode(prompt.token_ids) == f"<|im_start|>{QUESTION}"
    assert (prompt.offsets[0], prompt.offsets[1][0]) == ((0, 0), 0)


def test_model_without_end_token_ends_where_the_template_ends_an_answer() -> None:
    tokenizer = tokenizer_without("eos_token", "pad_token", "bos_token")
    model = tiny_model(tokenizer)
    assert model.end_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert model.pad_id == 0
    assert len(ask(model, TASK)) == 2
    (answer,) = retokenise(model, [(make_prompt(model, TASK, EXAMPLES[0], "chat"), TextAnswer("a", "Ja"))])
    assert answer.token_ids[-1] in model.end_ids


def test_model_without_any_end_token_is_cut_off_and_this_is_logged(tmp_path: Path) -> None:
    """As reported in BioMedLM#28."""
    tokenizer = tokenizer_without("eos_token", "pad_token", "bos_token")
    tokenizer.chat_template = None
    model = tiny_model(tokenizer)
    assert model.end_ids == set()
    messages: list[str] = []
    worker = make_worker(
        TransformersEngine(model),
        TASK,
        AnswerOptions(data="", model="", frame="none"),
        text_answers=None,
        inline_directory=tmp_path,
        log=messages.append,
    )
    answers = [answer for batch in worker.each([0]) for answer in batch]
    assert [(len(answer.produced_ids), answer.stopped) for answer in answers] == [(3, False), (3, False)]
    assert messages == [
        "neither the tokenizer of odd nor its generation configuration names an end token: answers end only at "
        "--max-new-tokens, and count as cut off in the latter case"
    ]
    assert check_site(model, "resid") == 16


def test_padding_token_beyond_the_embedding_is_not_used() -> None:
    """As reported in LLaVA#94, lo-fit#1 and OpenRLHF#87."""
    tokenizer = tokenizer_without("pad_token")
    n_embeddings = len(tokenizer)
    model = tiny_model(tokenizer, n_embeddings)
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "eos_token": "<end>"})
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (n_embeddings, n_embeddings + 1)
    assert model.pad_id == 0
    assert model.end_ids == {1}, "the end token beyond the embedding cannot be generated"
    together = ask(model, TASK)
    apart = [ask(model, replace(TASK, examples=(example,)))[0] for example in EXAMPLES]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in apart]


def test_tokens_without_embedding_are_refused_in_words() -> None:
    """As reported in EuroEval#52."""
    tokenizer = byte_level_tokenizer()
    n_embeddings = len(tokenizer)
    tokenizer.add_tokens(["<extra>"])
    model = tiny_model(tokenizer, n_embeddings)
    prompt = make_prompt(model, TASK, EXAMPLES[0], "chat")
    message = (
        rf"contains the token '<extra>' with the id {n_embeddings}, but odd has embeddings for only {n_embeddings}"
    )
    with pytest.raises(DataError, match=f"the prompt {message} tokens\nhint: remove the token"):
        prompt_from_text(model, "Why <extra>?")
    with pytest.raises(DataError, match=f"the text of 'x' {message}"):
        retokenise(model, [(prompt, TextAnswer("x", "It is <extra>"))])


def test_embedding_may_be_larger_than_the_tokenizer() -> None:
    """As reported in unsloth-zoo#923 for Gemma 3."""
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, len(tokenizer) + 40)
    with torch.no_grad():
        model.network.lm_head.weight.zero_()
        model.network.lm_head.weight[-1] = model.network.model.norm.weight * 1e3
        model.network.lm_head.weight[-2] = -model.network.model.norm.weight * 1e3
    (answer, _) = ask(model, TASK)
    assert {token_id >= len(tokenizer) for token_id in answer.produced_ids} == {True}
    assert (answer.text, len(answer.offsets)) == ("", len(answer.token_ids))


def test_several_end_tokens_are_joined() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, eos_token_id=[1, 5, 7])
    assert model.end_ids == {1, 5, 7}


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_composing_tokenizer_accepts_decomposed_text(form: str) -> None:
    """As reported in tokenizers#1201."""
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = {"NFC": normalizers.NFC(), "NFKC": normalizers.NFKC()}[form]
    model = tiny_model(tokenizer)
    prompt = make_prompt(model, TASK, EXAMPLES[0], "chat")
    decomposed = unicodedata.normalize("NFD", "Österreich.")
    (answer,) = retokenise(model, [(prompt, TextAnswer("a", decomposed))])
    assert answer.text == "Österreich." != decomposed


def test_text_that_the_tokenizer_changes_is_refused_in_words() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    model = tiny_model(tokenizer)
    prompt = make_prompt(model, TASK, EXAMPLES[0], "chat")
    with pytest.raises(DataError, match=r"decode to 'it is in austria\.' instead of 'It is in Austria\.'"):
        retokenise(model, [(prompt, TextAnswer("a", "It is in Austria."))])
    (answer,) = retokenise(model, [(prompt, TextAnswer("a", "it is in austria."))])
    assert answer.text == "it is in austria."


def test_chat_template_of_the_tests_is_usual() -> None:
    assert tiny_model(byte_level_tokenizer()).chat_template.notes == []
    assert tiny_model(byte_level_tokenizer()).chat_template.text == CHAT_TEMPLATE
