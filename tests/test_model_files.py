"""Damaged model files are named: Git LFS pointers, web pages, and incomplete files."""

import shutil
import struct
from pathlib import Path

import pytest

from probemap.file_content import placeholder
from probemap.models.model import load_model
from probemap.models.model_files import damaged_file
from probemap.records import ModelError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n"
PAGE = b"<!DOCTYPE html><html>Log in</html>"
WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        WEIGHTS,  # huggingface/transformers#27923, microsoft/OmniParser#34
        "tokenizer.json",
        "config.json",
        "tokenizer_config.json",
        "generation_config.json",  # transformers ignores it if it is damaged
        "chat_template.jinja",
    ],
)
def test_load_model_names_a_file_that_is_not_there(chat_folder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "model")
    assert (folder / name).is_file()
    for content, problem in ((POINTER, "is a Git LFS pointer, not the file itself"), (PAGE, "is a web page")):
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError) as raised:
            load_model(folder)
        assert raised.value.problem.startswith(f"{folder / name} {problem}")
        assert "download" in raised.value.hint
    if not name.endswith(".jinja"):
        (folder / name).write_bytes(b"")
        with pytest.raises(ModelError, match=f"{name} is empty"):
            load_model(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"eos_token_id": ', "is not valid JSON (Expecting value: line 1"),
        (b'{"x": "\xe9"}', "is not valid JSON ('utf-8' codec can't decode"),
        (b"[]", "contains a JSON list, expected an object"),
        (b"null", "contains a JSON NoneType, expected an object"),
        (b"[" * 100_000, "is not valid JSON (maximum recursion depth"),
    ],
)
def test_load_model_names_a_damaged_configuration(
    chat_folder: Path, tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError) as raised:
        load_model(folder)
    assert raised.value.problem.startswith(f"{folder / name} {problem}")
    assert raised.value.hint == "download it again"


def with_header(header: bytes) -> bytes:
    """Return a safetensors file with the given header and without data."""
    return struct.pack("<Q", len(header)) + header


def test_header_of_weights_is_limited_to_100_megabytes(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    with path.open("wb") as file:  # a sparse file
        file.write(struct.pack("<Q", 100_000_001) + b"{}")
        file.truncate(200_000_000)
    assert damaged_file(tmp_path) == (
        f"{path} is not a safetensors file, or only its beginning",
        "download it again",
    )


def test_load_model_names_incomplete_weights(chat_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "model")
    whole = (folder / WEIGHTS).read_bytes()
    for content, problem in (
        (whole[:-1], f"is incomplete: it has {len(whole) - 1} bytes, expected {len(whole)}"),
        (whole[:500], "is not a safetensors file, or only its beginning"),
        (whole[:7], "is not a safetensors file, or only its beginning"),
        (b"\xff" * 8 + whole[8:], "is not a safetensors file, or only its beginning"),
        (whole[:8] + b"x" + whole[9:], "is not a safetensors file: its header is damaged"),
        (with_header(b'{"x": {"data_offsets": [0, "a"]}}'), "is not a safetensors file: its header is damaged"),
        (with_header(b'{"x": {"data_offsets": [0, null]}}'), "is not a safetensors file: its header is damaged"),
        (with_header(b'{"x": {"data_offsets": [0, "5"]}}'), "is not a safetensors file: its header is damaged"),
    ):
        (folder / WEIGHTS).write_bytes(content)
        with pytest.raises(ModelError) as raised:
            load_model(folder)
        assert raised.value.problem == f"{folder / WEIGHTS} {problem}"


def test_a_pointer_that_is_not_needed_does_not_matter(chat_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "model")
    for name in ("consolidated.safetensors", "tokenizer.model"):
        (folder / name).write_bytes(POINTER)
    assert load_model(folder).n_layers == 4


HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (POINTER, "m.gguf is a Git LFS pointer, not the file itself"),  # ggml-org/llama.cpp#3358
        (PAGE, "m.gguf is a web page, not the file itself"),
        (b"", "m.gguf is empty"),
        (b"lmgg\x01\x00", "m.gguf is not a GGUF file: it starts with b'lmgg', expected b'GGUF'"),
        (b"GGUF", "m.gguf (4 bytes) could not be read: "),  # kvcache-ai/ktransformers#1482
        (HEAD, "m.gguf (8 bytes) could not be read: "),
        (HEAD + struct.pack("<QQ", 0, 0), "m.gguf (24 bytes) could not be read: "),
        (HEAD + struct.pack("<QQ", 2**60, 2**60), "m.gguf (24 bytes) could not be read: "),
        (HEAD + struct.pack("<QQQ", 1, 1, 2**40) + b"x", "m.gguf (33 bytes) could not be read: "),
        (b"GGUF" + struct.pack("<IQQ", 99, 1, 1), "m.gguf (24 bytes) could not be read: "),
    ],
)
def test_load_model_refuses_damaged_gguf_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, problem: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ModelError) as raised:
        load_model(tmp_path / "m.gguf")
    assert problem in raised.value.problem
    assert raised.value.hint


def test_placeholder_of_an_ordinary_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("version 2 of the questions\n")
    assert placeholder(tmp_path / "x") is None
