"""A chat model and the engine that runs it, which takes long to start and is shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import byte_level_tokenizer, save_tiny_model

from probemap.models.model import load_model
from probemap.models.vllm_engine import VLLMEngine
from probemap.models.vllm_loading import VLLMOptions


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))  # vLLM's own warnings are not this package's


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama model whose attention heads have a size that vLLM supports on CPUs."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-chat", byte_level_tokenizer(), **sizes)


@pytest.fixture(scope="session")
def engine(chat_folder: Path) -> Iterator[VLLMEngine]:
    options = VLLMOptions(kv_cache_bytes=2**28, max_running=8)
    with VLLMEngine(load_model(chat_folder, device="meta"), options) as engine:
        yield engine
