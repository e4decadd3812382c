"""Devices, memory limits and quantisation of a loaded model, and models whose weights are drawn at random."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from families import some_answers, tiny
from running import execute
from test_forward import NAMES
from typer.testing import CliRunner

from probemap.cli.main import app
from probemap.models.forward import hidden_states
from probemap.models.loading import Loader
from probemap.models.model import Model, load_model, resolve_name
from probemap.models.model_names import ModelSource
from probemap.positions import token_indices
from probemap.records import ModelError, RunError
from probemap.runs.definitions import ANSWER


def test_load_model_spread_gives_the_same_states(chat_folder: Path, chat_model: Model) -> None:
    spread = load_model(chat_folder, device="spread", max_memory="2GiB")
    answers = some_answers(chat_model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    np.testing.assert_array_equal(hidden_states(spread, answers, indices), hidden_states(chat_model, answers, indices))


def test_load_model_rejects_a_memory_limit_without_spread(chat_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"a memory limit per device \(2GiB\) requires(.|\n)*hint: add --device spread"
    ):
        load_model(chat_folder, max_memory="2GiB")
    with pytest.raises(ModelError, match=r"could not be loaded: .*bananas"):
        load_model(chat_folder, device="spread", max_memory="bananas")


def test_load_model_quantize_requires_bitsandbytes(chat_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"bitsandbytes(.|\n)*hint: quantisation requires bitsandbytes: pip install"):
        load_model(chat_folder, quantize="4bit")


def test_loader_of_a_run_loads_the_model_as_it_answered(chat_folder: Path, tmp_path: Path) -> None:
    run = execute(ANSWER, tmp_path / "run", data="cities", model=chat_folder, dtype="bfloat16", n=2, max_new_tokens=2)
    assert run.record(ANSWER).options.quantize is None
    expected = Loader(str(chat_folder), None, "spread", "bfloat16", None, "1GiB")
    assert run.loader("spread", max_memory="1GiB") == expected


def test_load_model_in_several_threads_keeps_tied_weights(tmp_path: Path) -> None:
    tied = tiny("qwen3")
    tied.network.save_pretrained(tmp_path)
    tied.tokenizer.save_pretrained(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load_model, [tmp_path] * 12))
    expected = tied.network.lm_head.weight.detach().numpy()
    for model in models:
        np.testing.assert_array_equal(model.network.lm_head.weight.detach().numpy(), expected)


# Untrained models


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.network.named_parameters()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of the parameters that are the same in two models."""
    assert a.keys() == b.keys()
    return [name for name in a if torch.equal(a[name], b[name])]


def test_untrained_model_needs_no_weights(chat_folder: Path, chat_model: Model, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "tiny-chat", ignore=shutil.ignore_patterns("*.safetensors"))
    model = load_model(f"untrained:{folder}")
    assert model.label == "untrained:tiny-chat"
    names = "dtype window n_layers n_embeddings end_ids pad_id template_sha256 newline_ids".split()
    assert {name: getattr(model, name) for name in names} == {name: getattr(chat_model, name) for name in names}
    answers = some_answers(chat_model)
    states = hidden_states(model, answers, token_indices(answers, [None] * len(answers), NAMES))
    assert np.isfinite(states).any()
    assert not model.network.training
    beside_weights = load_model(f"untrained:{chat_folder}")
    assert beside_weights.revision == model.revision == f"untrained:{model.revision[-64:]}"
    assert model.revision[-64:] != chat_model.revision
    assert equal(weights(beside_weights), weights(model)) == list(weights(model))


def test_untrained_model_depends_on_the_seed_alone(chat_folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = weights(load_model(f"untrained:{chat_folder}"))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    second = load_model(f"untrained-0:{chat_folder}")
    assert (second.label, equal(weights(second), first)) == ("untrained:tiny-chat", list(first))
    other = load_model(f"untrained-12:{chat_folder}")
    assert other.label == "untrained-12:tiny-chat"
    assert other.revision == f"untrained-12:{second.revision[-64:]}"
    assert all(name.endswith("norm.weight") for name in equal(weights(other), first)), "ones, whatever the seed"
    rounded = load_model(f"untrained:{chat_folder}", dtype="bfloat16")
    assert rounded.dtype == "bfloat16"
    assert equal(weights(rounded), {name: value.bfloat16() for name, value in first.items()}) == list(first)


def test_untrained_names_resolve_like_the_others(tmp_path: Path) -> None:
    trained, untrained = resolve_name("smollm2-135m"), resolve_name("untrained-3:smollm2-135m")
    assert (untrained.path, untrained.seed, trained.seed) == (trained.path, 3, None)
    assert untrained.label == f"untrained-3:{trained.label}"
    assert (untrained.revision("abc"), trained.revision("abc")) == ("untrained-3:abc", "abc")
    assert resolve_name("untrained:owner/name") == ModelSource(path="owner/name", name="name", seed=0)
    for name, problem in (
        ("./nothing", "the model directory ./nothing does not exist"),
        ("nothing.gguf", "the GGUF file nothing.gguf does not exist"),
        (str(tmp_path), f"the directory {tmp_path} contains no config.json"),
    ):
        with pytest.raises(ModelError, match=problem):
            load_model(f"untrained:{name}")
    with pytest.raises(ModelError, match="model 'untrained:no-such-model' could not be loaded") as raised:
        load_model("untrained:no-such-model")
    assert "a .gguf file, or smollm2-135m" in raised.value.hint


def test_untrained_model_is_refused_where_weights_are_read_from_files(chat_folder: Path, tmp_path: Path) -> None:
    name = f"untrained:{chat_folder}"
    for options, problem in (
        ({"quantize": "4bit"}, "quantize='4bit' requires"),
        ({"device": "spread"}, "device='spread' requires"),
        ({"device": "meta"}, "vLLM requires"),
    ):
        with pytest.raises(ModelError, match=f"{problem} weights in files, but those of untrained:tiny-chat are drawn"):
            load_model(name, **options)  # type: ignore[arg-type]
    words = ["answer", "cities", "--model", name, "--out", str(tmp_path / "run"), "--n", "2"]
    call = CliRunner().invoke(app, [*words, "--engine", "vllm"])
    assert str(call.exception).startswith("vLLM requires weights in files")
    assert "hint: use the transformers engine" in str(call.exception)
    call = CliRunner().invoke(app, [*words, "--endpoint", "http://127.0.0.1:1/v1"])
    assert isinstance(call.exception, RunError)
    assert str(call.exception).startswith("a server cannot run 'untrained:")
    assert not (tmp_path / "run" / "answers.jsonl").exists()
