"""The store gives back what was written, reads one cell, and never passes damage off as data."""

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
    made = np.random.default_rng(0).normal(size=(layout.n, layout.n_layers, 2, layout.d)).astype(np.float32)
    made[3, :, 1] = np.nan
    return made


def path(store: ActivationStore) -> Path:
    return Path(str(store.storage))


def filled(path: Path, layout: Layout = LAYOUT) -> ActivationStore:
    store = ActivationStore.create(path, layout)
    for shard in store.missing_shards():
        store.write_shard(shard, states(layout)[layout.rows(shard)])
    return store


def test_what_was_written_is_read_back_by_cell_and_by_layer(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    store = ActivationStore.open(tmp_path / "s")
    assert store.layout == LAYOUT
    np.testing.assert_array_equal(store.read(1, "-1"), states()[:, 1, 1])
    np.testing.assert_array_equal(store.read_layer(2), states()[:, 2])
    assert store.faults() == {}


def test_one_cell_is_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = replace(LAYOUT, n=400, shard_rows=200, d=64)
    store = filled(tmp_path / "s", layout)
    from zarr.storage import LocalStore

    read = 0
    original = LocalStore.get

    async def counted(self: LocalStore, *args: object, **kw: object) -> object:
        nonlocal read
        found = await original(self, *args, **kw)
        read += len(found.to_bytes()) if found is not None else 0
        return found

    monkeypatch.setattr(LocalStore, "get", counted)
    cell = store.read(1, "-1")
    assert read < 1.1 * cell.nbytes, f"{read} bytes for a cell of {cell.nbytes}"


def test_the_disk_holds_little_more_than_the_values(tmp_path: Path) -> None:
    layout = replace(LAYOUT, n=400, shard_rows=200, d=64)
    filled(tmp_path / "s", layout)
    size = sum(p.stat().st_size for p in (tmp_path / "s").rglob("*") if p.is_file())
    assert size < 1.02 * states(layout).nbytes + 4096


def test_a_shard_without_marker_does_not_exist(tmp_path: Path) -> None:
    store = ActivationStore.create(tmp_path / "s", LAYOUT)
    assert store.missing_shards() == [0, 1, 2]
    store.write_shard(1, states()[4:8])
    assert store.missing_shards() == [0, 2]
    with pytest.raises(StoreError, match="2 of 3 shards have not been captured\nhint: `probemap capture RUN` resumes"):
        store.read(0, "-1")


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    files = sorted((path(store) / "states" / "c").rglob("0"))
    shards = [f for f in files if f.is_file()]
    draw = np.random.default_rng(1)
    for _ in range(200):
        shard = int(draw.integers(len(shards)))
        content = bytearray(shards[shard].read_bytes())
        place = int(draw.integers(len(content)))
        good = bytes(content)
        content[place] ^= 1 << int(draw.integers(8))
        shards[shard].write_bytes(content)
        assert store.faults() == {shard: "changed"}
        with pytest.raises(StoreError, match=rf"c/{shard}/0/0/0 is damaged"):
            for layer in range(3):
                ActivationStore.open(path(store)).read_layer(layer)
        shards[shard].write_bytes(good)
    assert store.faults() == {}


def test_a_lost_and_a_truncated_shard_are_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    file = path(store) / "states" / "c" / "2" / "0" / "0" / "0"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(StoreError, match="c/2/0/0/0 is damaged"):
        store.read_layer(0)
    file.unlink()
    with pytest.raises(StoreError, match="c/2/0/0/0 is lost\nhint: `probemap verify RUN --repair`"):
        store.read_layer(0)


def test_damaged_descriptions_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    (path(store) / "commits" / "00000.json").write_text("{")
    with pytest.raises(StoreError, match=r"00000\.json is damaged"):
        store.content_hash()
    (path(store) / "layout.json").write_text('{"n": 3}')
    with pytest.raises(StoreError, match=r"layout\.json is damaged"):
        ActivationStore.open(path(store))
    with pytest.raises(StoreError, match="holds no captured states\nhint: `probemap capture RUN` captures them"):
        ActivationStore.open(tmp_path / "nothing")


def test_another_layout_is_not_written_into_a_store(tmp_path: Path) -> None:
    filled(tmp_path / "s")
    with pytest.raises(StoreError, match="holds states with another layout"):
        ActivationStore.create(tmp_path / "s", replace(LAYOUT, d=9))


def test_float16_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    layout = replace(LAYOUT, dtype="float16")
    store = ActivationStore.create(tmp_path / "s", layout)
    big = states()[:4]
    big[0, 0, 0, 0] = 7e4
    with pytest.raises(StoreError, match="float16 holds values up to 65504; a state of 70000 was captured"):
        store.write_shard(0, big)
    big[0, 0, 0, 0] = np.inf
    with pytest.raises(StoreError, match="a captured state is infinite"):
        store.write_shard(0, big)
    assert store.missing_shards() == [0, 1, 2]
    with pytest.raises(StoreError, match="float32 or float16, not bfloat16"):
        ActivationStore.create(tmp_path / "t", replace(LAYOUT, dtype="bfloat16"))


def test_the_contents_hash_follows_the_values(tmp_path: Path) -> None:
    one, same = filled(tmp_path / "a"), filled(tmp_path / "b")
    assert one.content_hash() == same.content_hash()
    other = ActivationStore.create(tmp_path / "c", LAYOUT)
    for shard in range(3):
        other.write_shard(shard, states()[LAYOUT.rows(shard)] + np.float32(1))
    assert other.content_hash() != one.content_hash()
    assert json.loads((path(one) / "commits" / "00002.json").read_text())["rows"] == [8, 10]


def test_shards_have_about_64_mib() -> None:
    assert shard_rows_for(10_000, 30 * 15 * 576 * 4) == 64
    assert shard_rows_for(5, 30 * 15 * 576 * 4) == 5
    assert shard_rows_for(500, 30 * 15 * 576 * 4) == 63
    assert shard_rows_for(10, 80 * 15 * 8192 * 100 * 4) == 1


@given(st.integers(1, 30_000), st.integers(1, 80), st.integers(1, 8192))
def test_the_empty_part_of_the_last_shard_is_small(n: int, n_layers: int, d: int) -> None:
    rows = shard_rows_for(n, n_layers * 15 * d * 4)
    assert n <= -(-n // rows) * rows <= 1.01 * n


def test_a_shard_without_any_state_is_there_as_well(tmp_path: Path) -> None:
    store = ActivationStore.create(tmp_path / "store", LAYOUT)
    for shard in store.missing_shards():
        store.write_shard(shard, np.full_like(states()[LAYOUT.rows(shard)], np.nan))
    assert store.faults() == {}
    assert np.isnan(store.read(0, "-1")).all()
