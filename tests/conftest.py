"""Fixtures that many test modules share: tokenizers trained here, tiny random models, a tiny run.

Heavy libraries are imported inside the fixtures, so that tests of pure Python start within a second.
"""

import gc
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probemap.records import Answer

if TYPE_CHECKING:
    import transformers
    from playwright.sync_api import Browser

    from probemap.detectors.detector import Detector
    from probemap.models.model import Model


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Load the Hypothesis profile only before a test module that uses Hypothesis, because its import is slow."""
    if isinstance(collector, pytest.Module) and "from hypothesis import" in collector.path.read_text(encoding="utf-8"):
        from hypothesis import HealthCheck, settings

        # Test machines are shared: the time that one example takes says nothing about the code.
        settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("shared")


def pytest_collection_finish() -> None:
    """Exempt the imported libraries, millions of objects, from garbage collection, which otherwise visits them all."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep Hypothesis's summary from importing Hypothesis when no test used it and none failed."""
    plugin = session.config.pluginmanager.get_plugin("hypothesispytest")
    if plugin and "hypothesis" not in sys.modules and not session.testsfailed:
        session.config.pluginmanager.unregister(plugin)


TEXTS = [
    "In which country is the city of Vienna? Vienna is in Austria. Paris is in France.",
    "Zürich liegt in der Schweiz; Ñuñoa está en Chile; 東京 is Tokyo, Japan 🗼.",
    "What is 7 + 5? 7 + 5 = 12. The answer is 12, not 13. Q: A: user assistant",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level_tokenizer() -> "transformers.PreTrainedTokenizerFast":
    """Byte-level BPE, as in GPT-2, Llama 3, Qwen and SmolLM2: any byte is a token."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
    )


def byte_fallback_tokenizer() -> "transformers.PreTrainedTokenizerFast":
    """SentencePiece-style BPE, as in Llama 2, Mistral and Gemma: ▁ for space, bytes for unknown characters."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    specials = ["<unk>", "<bos>", "<eos>", *(f"<0x{i:02X}>" for i in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([TEXTS[0], TEXTS[2]], trainer)
    # The byte tokens are trained as special tokens so that they exist; in use they are ordinary tokens.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


TOKENIZERS = {"byte-level": byte_level_tokenizer, "byte-fallback": byte_fallback_tokenizer}


def save_tiny_model(
    folder: Path, tokenizer: "transformers.PreTrainedTokenizerFast", seed: int = 0, **sizes: int
) -> Path:
    """Save a random Llama model, with four layers and hidden size 32 unless other sizes are given."""
    import torch
    import transformers

    tiny = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    config = transformers.LlamaConfig(
        **(tiny | sizes),
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = transformers.LlamaForCausalLM(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model on disk, with a byte-level tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-chat", byte_level_tokenizer())


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model on disk: byte fallback, no chat template, no padding token."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-base", byte_fallback_tokenizer())


@pytest.fixture(scope="session")
def chat_model(chat_folder: Path) -> "Model":
    from probemap.models.model import load_model

    return load_model(chat_folder)


@pytest.fixture(scope="session")
def base_model(base_folder: Path) -> "Model":
    from probemap.models.model import load_model

    return load_model(base_folder)


@pytest.fixture(scope="session")
def mapped(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory up to its map, to be copied: 80 sums with user-supplied answers, every second one correct."""
    from running import execute

    from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE, MAP

    folder = tmp_path_factory.mktemp("mapped")
    questions: list[dict[str, Any]] = [
        {"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]}
        | {"block": f"block {i // 8}", "size": i, "half": "high half" if i >= 40 else "low half"}
        | ({"note": i % 3} if i > 2 else {})
        for i in range(80)
    ]
    answers = [{"id": f"q{i}", "text": f"The answer is {i + 5 + i % 2}. Is it?"} for i in range(80)]
    for name, rows in (("questions", questions), ("answers", answers)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers_file = str(folder / "answers.jsonl")
    run = execute(ANSWER, folder / "RUN", data=folder / "questions.jsonl", model=chat_folder, answers=answers_file)
    for step in (JUDGE, CAPTURE, MAP):
        execute(step, run)
    return run.path


@pytest.fixture(scope="session")
def detector_folder(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector at the exact answer of `mapped`, with a fallback for answers without one."""
    from probemap.runs.run import Run
    from probemap.runs.steps.export import export

    out = tmp_path_factory.mktemp("exported") / "detector"
    export(Run.open(mapped), out, cells=[(2, "exact_answer_last")], held_out=0.6)
    return out


@pytest.fixture(scope="session")
def detector(detector_folder: Path) -> "Detector":
    from probemap.detectors.detector import Detector

    return Detector.load(detector_folder)


@pytest.fixture(scope="session")
def smollm() -> "Model":
    """The demo's real model, from the installed package."""
    from probemap.models.model import load_model

    return load_model("smollm2-135m")


def make_answer(text: str, tokens: list[str], prompt: list[str], *, stopped: bool = True, id_: str = "a") -> Answer:
    """Build an answer from its tokens as strings; an empty last token is the end-of-sequence token."""
    assert "".join(tokens) == text
    offsets = []
    for pieces in (prompt, tokens):
        start = 0
        for piece in pieces:
            offsets.append((start, start + len(piece)))
            start += len(piece)
    n = len(prompt) + len(tokens)
    return Answer(
        id=id_,
        prompt="".join(prompt),
        text=text,
        token_ids=tuple(range(n)),
        n_prompt=len(prompt),
        offsets=tuple(offsets),
        logprobs=(-0.5,) * len(tokens),
        stopped=stopped,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser per test module: its event loop occupies the thread while it runs."""
    from browsing import launched

    with launched() as started:
        yield started
