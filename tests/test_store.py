"""The store returns what was written, reads single cells, and reports every kind of damage."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.activations.layout import Layout, States, shard_rows_for
from probemap.activations.store import ActivationStore
from probemap.records import StoreError

LAYOUT = Layout(
    n=10,
    n_layers=3,
    positions=("last_q", "-1"),
    d=8,
    site="resid",
    dtype="float32",
    shard_rows=4,
    made_from="made-from",
)


def states(layout: Layout = LAYOUT) -> States:
    values = np.random.default_rng(0).normal(size=(layout.n, layout.n_layers, 2, layout.d)).astype(np.float32)
    values[3, :, 1] = np.nan
    return values


def path(store: ActivationStore) -> Path:
    return Path(str(store.storage))


def filled_store(path: Path, layout: Layout = LAYOUT) -> ActivationStore:
    store = ActivationStore.create(path, layout)
    for shard in store.missing_shards():
        store.write_shard(shard, states(layout)[layout.rows(shard)])
    return store


def test_read_returns_what_was_written_by_cell_and_by_layer(tmp_path: Path) -> None:
    filled_store(tmp_path / "s")
    store = ActivationStore.open(tmp_path / "s")
    assert store.layout == LAYOUT
    np.testing.assert_array_equal(store.read(1, "-1"), states()[:, 1, 1])
    np.testing.assert_array_equal(store.read_layer(2), states()[:, 2])
    assert store.faults() == {}


def test_read_loads_only_the_bytes_of_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = replace(LAYOUT, n=400, shard_rows=200, d=64)
    store = filled_store(tmp_path / "s", layout)
    from zarr.storage import LocalStore

    read = 0
    original = LocalStore.get

    async def counted(self: LocalStore, *args: object, **kw: object) -> object:
        nonlocal read
        buffer = await original(self, *args, **kw)
        read += len(buffer.to_bytes()) if buffer is not None else 0
        return buffer

    monkeypatch.setattr(LocalStore, "get", counted)
    cell = store.read(1, "-1")
    assert read < 1.1 * cell.nbytes, f"{read} bytes for a cell of {cell.nbytes}"


def test_write_shard_uses_little_more_disk_space_than_the_values(tmp_path: Path) -> None:
    layout = replace(LAYOUT, n=400, shard_rows=200, d=64)
    filled_store(tmp_path / "s", layout)
    size = sum(p.stat().st_size for p in (tmp_path / "s").rglob("*") if p.is_file())
    assert size < 1.02 * states(layout).nbytes + 4096


def test_input_embeddings_are_read_checked_and_part_of_the_hash(tmp_path: Path) -> None:
    without = filled_store(tmp_path / "without")
    assert without.input_embeddings() is None
    embeddings = np.random.default_rng(1).normal(size=(10, 5)).astype(np.float32)
    embeddings[4] = np.nan
    store = ActivationStore.create(tmp_path / "with", LAYOUT)
    for shard in store.missing_shards():
        rows = LAYOUT.rows(shard)
        store.write_shard(shard, states()[rows], input_embeddings=embeddings[rows])
    np.testing.assert_array_equal(store.input_embeddings(), embeddings)
    np.testing.assert_array_equal(store.read(1, "-1"), without.read(1, "-1"))
    assert store.faults() == {}
    assert store.content_hash() != without.content_hash()
    file = path(store) / "input_embeddings" / "00001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert store.faults() == {1: "changed"}
    with pytest.raises(StoreError, match=r"input_embeddings/00001.safetensors is damaged\nhint: `probemap verify"):
        store.input_embeddings()
    file.unlink()
    assert store.faults() == {1: "lost"}
    store.set_aside(1)
    store.write_shard(1, states()[4:8])
    assert store.input_embeddings() is None, "the embeddings of one shard are missing"


def test_missing_shards_are_those_without_a_marker(tmp_path: Path) -> None:
    store = ActivationStore.create(tmp_path / "s", LAYOUT)
    assert store.missing_shards() == [0, 1, 2]
    store.write_shard(1, states()[4:8])
    assert store.missing_shards() == [0, 2]
    with pytest.raises(StoreError, match="2 of 3 shards have not been captured\nhint: `probemap capture RUN` resumes"):
        store.read(0, "-1")


def test_faults_and_read_detect_every_flipped_bit(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "s")
    files = sorted((path(store) / "states" / "c").rglob("0"))
    shards = [f for f in files if f.is_file()]
    draw = np.random.default_rng(1)
    for _ in range(200):
        shard = int(draw.integers(len(shards)))
        content = bytearray(shards[shard].read_bytes())
        position = int(draw.integers(len(content)))
        original = bytes(content)
        content[position] ^= 1 << int(draw.integers(8))
        shards[shard].write_bytes(content)
        assert store.faults() == {shard: "changed"}
        with pytest.raises(StoreError, match=rf"c/{shard}/0/0/0 is damaged"):
            for layer in range(3):
                ActivationStore.open(path(store)).read_layer(layer)
        shards[shard].write_bytes(original)
    assert store.faults() == {}


def test_read_names_lost_and_truncated_shards(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "s")
    file = path(store) / "states" / "c" / "2" / "0" / "0" / "0"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(StoreError, match="c/2/0/0/0 is damaged"):
        store.read_layer(0)
    file.unlink()
    with pytest.raises(
        StoreError, match="c/2/0/0/0 was committed but no longer exists\nhint: `probemap verify RUN --repair`"
    ):
        store.read_layer(0)


def test_open_and_content_hash_reject_damaged_descriptions(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "s")
    (path(store) / "commits" / "00000.json").write_text("{")
    with pytest.raises(StoreError, match=r"00000\.json is damaged"):
        store.content_hash()
    (path(store) / "layout.json").write_text('{"n": 3}')
    with pytest.raises(StoreError, match=r"layout\.json is damaged"):
        ActivationStore.open(path(store))
    with pytest.raises(StoreError, match="contains no captured states\nhint: `probemap capture RUN` captures them"):
        ActivationStore.open(tmp_path / "nothing")


def test_create_rejects_a_directory_with_another_layout(tmp_path: Path) -> None:
    filled_store(tmp_path / "s")
    with pytest.raises(StoreError, match="contains states with a different layout"):
        ActivationStore.create(tmp_path / "s", replace(LAYOUT, d=9))


def test_write_shard_rejects_values_that_float16_cannot_represent(tmp_path: Path) -> None:
    layout = replace(LAYOUT, dtype="float16")
    store = ActivationStore.create(tmp_path / "s", layout)
    large = states()[:4]
    large[0, 0, 0, 0] = 7e4
    with pytest.raises(
        StoreError, match="a captured state of magnitude 70000 is too large for float16, whose maximum is 65504"
    ):
        store.write_shard(0, large)
    large[0, 0, 0, 0] = np.inf
    with pytest.raises(StoreError, match="a captured state is infinite"):
        store.write_shard(0, large)
    assert store.missing_shards() == [0, 1, 2]
    with pytest.raises(StoreError, match="cannot store states as bfloat16, expected float32 or float16"):
        ActivationStore.create(tmp_path / "t", replace(LAYOUT, dtype="bfloat16"))


def test_content_hash_depends_on_the_values_only(tmp_path: Path) -> None:
    store, copy = filled_store(tmp_path / "a"), filled_store(tmp_path / "b")
    assert store.content_hash() == copy.content_hash()
    shifted = ActivationStore.create(tmp_path / "c", LAYOUT)
    for shard in range(3):
        shifted.write_shard(shard, states()[LAYOUT.rows(shard)] + np.float32(1))
    assert shifted.content_hash() != store.content_hash()
    assert json.loads((path(store) / "commits" / "00002.json").read_text())["rows"] == [8, 10]


def test_shard_rows_for_gives_shards_of_about_64_mib() -> None:
    assert shard_rows_for(10_000, 30 * 15 * 576 * 4) == 64
    assert shard_rows_for(5, 30 * 15 * 576 * 4) == 5
    assert shard_rows_for(500, 30 * 15 * 576 * 4) == 63
    assert shard_rows_for(10, 80 * 15 * 8192 * 100 * 4) == 1


@given(st.integers(1, 30_000), st.integers(1, 80), st.integers(1, 8192))
def test_shard_rows_for_leaves_little_padding(n: int, n_layers: int, d: int) -> None:
    rows = shard_rows_for(n, n_layers * 15 * d * 4)
    assert n <= -(-n // rows) * rows <= 1.01 * n


def test_write_shard_writes_a_file_for_a_shard_of_nan_only(tmp_path: Path) -> None:
    store = ActivationStore.create(tmp_path / "store", LAYOUT)
    for shard in store.missing_shards():
        store.write_shard(shard, np.full_like(states()[LAYOUT.rows(shard)], np.nan))
    assert store.faults() == {}
    assert np.isnan(store.read(0, "-1")).all()
