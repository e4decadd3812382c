"""The capture step: in shares that know nothing of each other, in a bucket, and again where bits have changed."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import execute
from typer.testing import CliRunner

from probemap.activations import layout
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.records import RunError, StoreError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.steps.capture import recapture
from probemap.runs.verify import recompute, verify
from probemap.workers import Shard, parse_shard


@pytest.fixture(scope="module")
def judged(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with answers and verdicts, to be copied."""
    folder = tmp_path_factory.mktemp("judged")
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(24)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = execute(ANSWER, folder / "run", data=folder / "q.jsonl", model=chat_folder, max_new_tokens=6)
    execute(JUDGE, run, locator="none")
    return folder / "run"


@pytest.fixture
def run(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(layout, "SHARD_BYTES", 4 * 15 * 32 * 4 * 4)  # four answers each: six shards
    return Run(shutil.copytree(judged, tmp_path / "run"))


def store_of(run: Run) -> ActivationStore:
    return ActivationStore.open(run.path / "activations")


# --- shares ---


@given(st.integers(1, 40), st.integers(1, 9))
def test_shares_hold_every_shard_once_and_differ_by_one_at_most(shards: int, count: int) -> None:
    parts = [Shard(number, count).of(list(range(shards))) for number in range(1, count + 1)]
    assert sorted(k for part in parts for k in part) == list(range(shards))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_launcher_says_which_share_it_is() -> None:
    assert parse_shard("2/8") == Shard(2, 8)
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert parse_shard("auto", {**array, "SLURM_ARRAY_TASK_STEP": "2"}) == Shard(3, 4)
    assert parse_shard("auto", {"RANK": "0", "WORLD_SIZE": "2"}) == Shard(1, 2)
    with pytest.raises(RunError, match="the environment variables that specify the shard are not set"):
        parse_shard("auto", {})
    for wrong in ("0/8", "9/8", "2", "a/b", "-1/2", ""):
        with pytest.raises(RunError, match=f"cannot parse the shard '{wrong}'"):
            parse_shard(wrong)


def test_shares_at_the_same_time_give_the_store_of_one_process(run: Run, judged: Path, tmp_path: Path) -> None:
    alone = Run(shutil.copytree(judged, tmp_path / "alone"))
    execute(CAPTURE, alone)
    assert store_of(alone).layout.n_shards == 6
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: execute(CAPTURE, run, Context(shard=Shard(number, 3))), (3, 1, 2)))
    assert run.is_done(CAPTURE)
    assert store_of(run).content_hash() == store_of(alone).content_hash()
    execute(CAPTURE, run, Context(shard=Shard(2, 3)))  # nothing is left to do


def test_a_share_leaves_the_rest_undone(run: Run) -> None:
    execute(CAPTURE, run, Context(shard=Shard(2, 3)))
    assert store_of(run).missing_shards() == [0, 2, 3, 5]
    assert not run.is_done(CAPTURE)
    with pytest.raises(StoreError, match="4 of 6 shards have not been captured"):
        store_of(run).content_hash()
    execute(CAPTURE, run)  # alone, it does the rest
    assert run.is_done(CAPTURE)
    assert store_of(run).faults() == {}


def test_a_share_cannot_set_aside_what_others_make(run: Run) -> None:
    with pytest.raises(RunError, match="shards of other processes to earlier/\nhint: use --redo without --shard"):
        execute(CAPTURE, run, Context(shard=Shard(1, 2)), redo=True)
    execute(CAPTURE, run, Context(shard=Shard(1, 2)))
    with pytest.raises(RunError, match='site was "resid", now "mlp_out"'):
        execute(CAPTURE, run, Context(shard=Shard(2, 2)), site="mlp_out")


def test_other_options_begin_anew_where_nothing_was_captured_yet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*rest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ActivationStore, "write_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            execute(CAPTURE, run)
    execute(CAPTURE, run, layers="0,2")
    assert store_of(run).layout.layer_numbers == [0, 2]


# --- verify ---


def test_every_changed_bit_is_found_and_only_broken_shards_are_captured_again(run: Run) -> None:
    execute(CAPTURE, run)
    place = run.path / "activations"
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file() and not p.name.startswith(".")}
    whole = store_of(run).content_hash()
    draw = random.Random(0)
    for path in [p for p in before if "commits" in p.parts] + [p for p in before if "c" in p.parts]:
        shard = int(path.stem) if "commits" in path.parts else int(path.relative_to(place).parts[2])
        content = bytearray(before[path])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        assert list(verify(run)) == [shard]
        path.write_bytes(before[path])
    broken = [place / "states" / "c" / str(k) / "0" / "0" / "0" for k in (1, 3)]
    broken[0].write_bytes(b"\0" * 100)
    broken[1].unlink()
    (place / "commits" / "00004.json").write_text("{}")
    assert verify(run) == {1: "changed", 3: "lost", 4: "marker changed"}
    assert recapture(run) == {1: "changed", 3: "lost", 4: "marker changed"}
    assert verify(run) == {}
    assert store_of(run).content_hash() == whole
    assert {p: p.read_bytes() for p in before} == before, "the very bytes"
    assert sorted(p.read_bytes() for p in (place / "aside").glob("*.shard"))[0] == b"\0" * 100, "nothing is deleted"


@pytest.mark.parametrize("name", ["layout.json", "states/zarr.json"])
def test_a_changed_description_is_told(run: Run, name: str) -> None:
    execute(CAPTURE, run)
    path = run.path / "activations" / name
    path.write_text(path.read_text().replace('"site": "resid"', '"site": "mesid"').replace('"answer"', '"answes"'))
    with pytest.raises(StoreError, match=r"layout.json or states/zarr.json has changed"):
        verify(run)


def test_the_command_line_tells_what_is_broken(run: Run) -> None:
    execute(CAPTURE, run)
    call = CliRunner().invoke(app, ["verify", str(run.path)])
    assert (call.exit_code, call.stdout) == (0, "all stored states match their checksums\n")
    (run.path / "activations" / "states" / "c" / "2" / "0" / "0" / "0").unlink()
    call = CliRunner().invoke(app, ["verify", str(run.path)])
    assert (call.exit_code, call.stdout) == (1, "shard 2: lost\n--repair captures them again\n")
    call = CliRunner().invoke(app, ["verify", str(run.path), "--repair"])
    assert (call.exit_code, call.stdout) == (
        0,
        "shard 2: lost\nall captured again; the damaged files were moved to `aside`\n",
    )


# --- check ---


def test_what_batches_and_dtypes_change_is_told_and_what_does_not_belong_is_found(run: Run) -> None:
    execute(CAPTURE, run)
    same = recompute(run, n=8)
    assert same.n == 8
    assert 0 <= same.median <= same.maximum < 1e-5
    store = store_of(run)
    rows = store.layout.rows(2)
    states = np.stack([store.read_layer(layer)[rows] for layer in range(4)], axis=1)
    row, column = np.argwhere(~np.isnan(states[:, 3, :, 0]))[0]
    states[row, 3, column] *= 2
    store.write_shard(2, states)
    other = recompute(run, n=24)
    assert other.maximum == pytest.approx(1, abs=1e-4)
    assert (other.answer, other.layer) == (run.answers[rows.start + row].id, 3)
    assert other.position == store.layout.positions[column]
    told = CliRunner().invoke(app, ["check", str(run.path), "--n", "24"]).stdout
    assert f"by at most 1.0e+00 ({other.answer}, layer 3, {other.position})" in told


def test_a_sample_without_any_of_the_positions_is_refused(run: Run) -> None:
    execute(CAPTURE, run, positions="exact_answer_first")
    without = next(i for i, j in enumerate(run.read_judgements()) if j.span is None)
    seed = next(s for s in range(999) if np.random.default_rng(s).permutation(24)[0] == without)
    with pytest.raises(RunError, match="none of the 1 drawn answers has a token at exact_answer_first"):
        recompute(run, n=1, seed=seed)


def test_float16_costs_what_float16_costs(run: Run) -> None:
    execute(CAPTURE, run, store_dtype="float16")
    assert 1e-5 < recompute(run).maximum < 2e-3


# --- a bucket ---


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3-compatible server on this machine, with an empty bucket."""
    import fsspec

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, (tmp_path_factory.mktemp("s3") / "log").open("w") as log:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        for _ in range(120):
            try:
                fsspec.filesystem("s3").mkdir("states")
                break
            except OSError:
                time.sleep(0.5)
        yield "s3://states"
        server.kill()
        server.wait()


def test_a_bucket_holds_the_states_that_a_folder_would(run: Run, judged: Path, tmp_path: Path, bucket: str) -> None:
    alone = Run(shutil.copytree(judged, tmp_path / "alone"))
    execute(CAPTURE, alone)
    options: dict[str, Any] = {"store": f"{bucket}/mine"}
    execute(CAPTURE, run, Context(shard=Shard(1, 2)), **options)
    execute(CAPTURE, run, Context(shard=Shard(2, 2)), **options)
    local = {p.name for p in (run.path / "activations").iterdir() if not p.name.startswith(".")}
    assert local == {"where.json"}
    there, here = store_of(run), store_of(alone)
    assert str(there.storage).startswith("s3://states/mine/")
    assert there.content_hash() == here.content_hash()
    for layer in range(4):
        assert there.read_layer(layer).tobytes() == here.read_layer(layer).tobytes()
    files = there.storage.names("states")
    shard = next(name for name in sorted(files) if "/c/1/" in name)
    content = bytearray(there.storage.read(shard))
    content[100] ^= 1
    there.storage.write(shard, bytes(content))
    assert verify(run) == {1: "changed"}
    assert recapture(run) == {1: "changed"}
    assert store_of(run).faults() == {}
    assert there.storage.read(shard) == here.storage.read(shard)


def test_another_layout_never_meets_the_first(run: Run, bucket: str) -> None:
    execute(CAPTURE, run, store=f"{bucket}/two")
    first = store_of(run)
    execute(CAPTURE, run, redo=True, store=f"{bucket}/two", positions="-1")
    assert store_of(run).layout.positions == ("-1",)
    assert first.faults() == {}, "what was there is there"


def test_other_weights_never_meet_the_first(run: Run, bucket: str) -> None:
    execute(CAPTURE, run, store=f"{bucket}/three")
    first = store_of(run)
    execute(CAPTURE, run, dtype="bfloat16", redo=True, store=f"{bucket}/three")
    assert str(store_of(run).storage) != str(first.storage)
    assert store_of(run).content_hash() != first.content_hash()


def test_a_bucket_that_refuses_is_told_and_costs_nothing(run: Run, bucket: str) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere/x/\w+: .*(\n|.)*hint: check the URL, the credentials"):
        execute(CAPTURE, run, store="s3://nowhere/x")
    execute(CAPTURE, run, store=f"{bucket}/after")
    assert store_of(run).faults() == {}
    with pytest.raises(StoreError, match=r"cannot open nosuch://x/\w+: Protocol not known: nosuch"):
        ActivationStore.create(run.path / "other", store_of(run).layout, "nosuch://x")
