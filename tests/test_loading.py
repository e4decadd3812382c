"""Devices, memory limits and quantisation of a loaded model."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from families import some_answers, tiny
from running import execute
from test_forward import NAMES

from probemap.models.forward import hidden_states
from probemap.models.loading import Loader
from probemap.models.model import Model, load_model
from probemap.positions import token_indices
from probemap.records import ModelError
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
