"""States that a vLLM server extracts: they fill the store, and states that it does not write are computed."""

import fcntl
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extracting_server import ExtractingServer, write_extracted
from fake_endpoint import FakeEndpoint, error_reply
from running import execute
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from probemap import Endpoint
from probemap.activations.layout import States
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.logger import Logger
from probemap.models import connection, extracted, transformers_engine
from probemap.models.endpoint import parse_server_layers
from probemap.models.extracted import open_extracted
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.records import ModelError, ProbemapError, RunError, StoreError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE
from probemap.runs.options import CaptureOptions
from probemap.runs.plan import Context
from probemap.runs.run import Run

POSITIONS = "last_q,first_answer,-2,-1"
LAYERS = (1, 3, 4)
"""The residual stream that enters the second and the fourth block, and the output of the last block."""


@pytest.fixture(scope="module")
def local(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose answers and states come from the local model."""
    folder = tmp_path_factory.mktemp("local")
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(8)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = execute(ANSWER, folder / "run", data=folder / "q.jsonl", model=chat_folder, max_new_tokens=6)
    execute(JUDGE, run, locator="none")
    return execute(CAPTURE, run, positions=POSITIONS, layers="0,2,3")


@pytest.fixture
def server(
    local: Run, chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ExtractingServer, FakeEndpoint]:
    server = ExtractingServer(chat_model, local.answers, tmp_path / "vllm", LAYERS)
    monkeypatch.setattr(connection, "RETRIES", 0)
    return server, FakeEndpoint(monkeypatch, server.respond)


def answer(local: Run, folder: Path, context: Context = Context(), **options: Any) -> Run:
    """Let the server answer the questions of the local run."""
    inline = CaptureOptions(positions=options.pop("positions", POSITIONS))
    options = {"endpoint": "http://x/v1", "server_layers": "1,3,4", "inline": inline, "max_new_tokens": 6, **options}
    recorded = local.record(ANSWER).options
    return execute(ANSWER, folder, context, data=recorded.data, model=recorded.model, **options)


def states_of(run: Run) -> States:
    store = ActivationStore.open(run.path / "activations")
    return np.stack([store.read_layer(layer) for layer in store.layout.layer_numbers], axis=1)


@pytest.fixture
def second_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of answers in each batch that the local model reads for their states."""
    sizes: list[int] = []
    original = hidden_states

    def counted(model: Any, answers: Any, *rest: Any, **options: Any) -> States:
        sizes.append(len(answers))
        return original(model, answers, *rest, **options)

    monkeypatch.setattr(transformers_engine, "hidden_states", counted)
    return sizes


def test_states_of_a_server_equal_a_local_capture(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path, second_passes: list[int]
) -> None:
    run = answer(local, tmp_path / "run", positions="last_q,first_answer,-2")
    assert all(r["kv_transfer_params"] == {"include_output_tokens": True} for r in server[1].requests)
    assert [a.token_ids for a in run.answers] == [a.token_ids for a in local.answers]
    shutil.rmtree(server[0].folder)  # the states have been copied
    execute(JUDGE, run, locator="none")
    messages: list[str] = []
    execute(CAPTURE, run, Context(logger=Logger(messages.append)), positions="last_q,first_answer,-2")
    assert (messages, second_passes) == ([], []), "no state is computed by the local model"
    store = ActivationStore.open(run.path / "activations")
    assert store.layout.layer_numbers == [0, 2, 3]
    assert run.record(CAPTURE).options.layers == "0,2,3"
    np.testing.assert_allclose(states_of(run), states_of(local)[:, :, :3], rtol=1e-4, atol=1e-5)
    assert not run.inline_states.exists(), "the states are in the store"


def test_states_that_the_server_does_not_write_are_computed(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path, second_passes: list[int]
) -> None:
    server[0].plus = 1.0
    run = answer(local, tmp_path / "run")
    execute(JUDGE, run, locator="none")
    messages: list[str] = []
    execute(CAPTURE, run, Context(logger=Logger(messages.append)), positions=POSITIONS)
    assert messages == [
        "the states at some tokens of 8 answers, such as the last token, were not recorded during generation: they are "
        "computed"
    ]
    assert sum(second_passes) >= 8
    difference = states_of(run) - states_of(local)
    np.testing.assert_allclose(difference[:, :, :3], 1, atol=2e-5, err_msg="the states of the server")
    np.testing.assert_allclose(difference[:, :, 3], 0, atol=2e-5, err_msg="the states of the local model")


def test_answer_without_a_later_capture_records_the_default_positions(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path
) -> None:
    server[0].plus = 1.0
    run = answer(local, tmp_path / "run", inline=None)
    execute(JUDGE, run, locator="none")
    execute(CAPTURE, run)
    store = ActivationStore.open(run.path / "activations")
    np.testing.assert_allclose(store.read(2, "last_q") - states_of(local)[:, 1, 0], 1, atol=2e-5)


def test_other_layers_and_sites_are_captured_by_the_local_model(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path
) -> None:
    server[0].plus = 1.0
    run = answer(local, tmp_path / "run")
    execute(JUDGE, run, locator="none")
    execute(CAPTURE, run, positions=POSITIONS, layers="0,2")
    np.testing.assert_allclose(states_of(run), states_of(local)[:, :2], rtol=1e-4, atol=1e-5)
    execute(CAPTURE, run, redo=True, defaults=True, positions=POSITIONS, site="mlp_out")
    assert ActivationStore.open(run.path / "activations").layout.layer_numbers == [0, 1, 2, 3]


def test_an_interrupted_run_continues_with_the_first_missing_batch(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path
) -> None:
    def fail_late(path: str, body: dict[str, Any]) -> Any:
        is_late = len(server[1].requests) > 5
        return error_reply(500, "out of order") if is_late else server[0].respond(path, body)

    server[1].respond = fail_late
    options: dict[str, Any] = {"batch_size": 2, "in_flight": 1}
    with pytest.raises(ModelError, match="out of order"):
        answer(local, tmp_path / "run", **options)
    server[1].respond = server[0].respond
    messages: list[str] = []
    run = answer(local, tmp_path / "run", Context(logger=Logger(messages.append)), **options)
    assert messages == ["4 of 8 answers already exist"]
    execute(JUDGE, run, locator="none")
    execute(CAPTURE, run, positions=POSITIONS)
    np.testing.assert_allclose(states_of(run), states_of(local), rtol=1e-4, atol=1e-5)


def test_run_takes_the_states_of_the_server(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path, second_passes: list[int]
) -> None:
    recorded = local.record(ANSWER).options
    (tmp_path / "q.jsonl").write_text(Path(recorded.data).read_text())
    command = ["run", str(tmp_path / "q.jsonl"), "--model", recorded.model, "--out", str(tmp_path / "run")]
    command += ["--endpoint", "http://x/v1", "--server-layers", "1,3,4"]
    command += ["--positions", "last_q,-2", "--locator", "none"]
    result = CliRunner().invoke(app, command)
    assert "a map requires both correct and incorrect answers" in str(result.exception), "the model is never correct"
    assert second_passes == []
    run = Run(tmp_path / "run")
    np.testing.assert_allclose(states_of(run), states_of(local)[:, :, [0, 2]], rtol=1e-4, atol=1e-5)


# --- errors ---


def without_states(reply: dict[str, Any], path: Path) -> None:
    reply["kv_transfer_params"] = None


def with_other_parameters(reply: dict[str, Any], path: Path) -> None:
    reply["kv_transfer_params"] = {"hidden_states_path": 5}


def without_file(reply: dict[str, Any], path: Path) -> None:
    path.unlink()


def with_damaged_file(reply: dict[str, Any], path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def changed(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[dict[str, Any], Path], None]:
    def write(reply: dict[str, Any], path: Path) -> None:
        arrays = load_file(path)
        change(arrays)
        save_file({name: array.contiguous() for name, array in arrays.items()}, path)

    return write


def fewer_layers(arrays: dict[str, torch.Tensor]) -> None:
    arrays["hidden_states"] = arrays["hidden_states"][:, :2]


def other_width(arrays: dict[str, torch.Tensor]) -> None:
    arrays["hidden_states"] = arrays["hidden_states"].repeat(1, 1, 2)


def other_tokens(arrays: dict[str, torch.Tensor]) -> None:
    arrays["token_ids"][-1] += 1


def too_few_tokens(arrays: dict[str, torch.Tensor]) -> None:
    arrays["token_ids"], arrays["hidden_states"] = arrays["token_ids"][:4], arrays["hidden_states"][:4]


def without_states_of_tokens(arrays: dict[str, torch.Tensor]) -> None:
    arrays["hidden_states"] = arrays["hidden_states"][:3]


def with_nan(arrays: dict[str, torch.Tensor]) -> None:
    arrays["hidden_states"][2, 1, 3] = torch.nan


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (without_states, ModelError, r"reply to 'q0' names no file with hidden states\nhint: start `vllm serve` with"),
        (with_other_parameters, ModelError, "reply to 'q0' names no file with hidden states"),
        (
            without_file,
            StoreError,
            r"chatcmpl-q0.safetensors, to which the server writes hidden states, does not exist on this machine\n"
            r"hint: set vLLM's `shared_storage_path` to a directory that the server and this machine share",
        ),
        (with_damaged_file, StoreError, r"chatcmpl-q0.safetensors cannot be read: (.|\n)*hint: the file is damaged or"),
        (
            changed(fewer_layers),
            StoreError,
            r"contains the states of 2 layers, but --server-layers names 3\nhint: list the server's `eagle_aux",
        ),
        (
            changed(other_width),
            StoreError,
            r"states of width 64, but the states of the local model have width 32\nhint: serve the model",
        ),
        (changed(other_tokens), StoreError, r"the tokens in .*q0.safetensors are not those of the answer 'q0'\nhint"),
        (changed(too_few_tokens), StoreError, "are not those of the answer 'q0'"),
        (changed(without_states_of_tokens), StoreError, r"contains states of shape \(3, 3, 32\) for \d+ tokens"),
        (changed(with_nan), StoreError, r"contains states that are infinite or NaN\nhint: look at the log"),
    ],
)
def test_states_that_cannot_be_used_are_an_error(
    change: Callable[[dict[str, Any], Path], None],
    error: type[ProbemapError],
    message: str,
    local: Run,
    server: tuple[ExtractingServer, FakeEndpoint],
    tmp_path: Path,
) -> None:
    def respond(path: str, body: dict[str, Any]) -> Any:
        reply = server[0].respond(path, body)
        change(reply, Path(reply["kv_transfer_params"]["hidden_states_path"]))
        return reply

    server[1].respond = respond
    with pytest.raises(error, match=message):
        answer(local, tmp_path / "run", in_flight=1)


def test_a_server_that_refuses_the_request_for_states_is_an_error(
    local: Run, server: tuple[ExtractingServer, FakeEndpoint], tmp_path: Path
) -> None:
    def refuse(path: str, body: dict[str, Any]) -> Any:
        if "kv_transfer_params" in body:
            return error_reply(400, "Unrecognized request arguments supplied: kv_transfer_params, return_token_ids")
        return {**server[0].respond(path, body), "kv_transfer_params": None}

    server[1].respond = refuse
    with pytest.raises(ModelError, match="names no file with hidden states"):
        answer(local, tmp_path / "run", in_flight=1)


def test_files_are_read_when_the_server_has_released_its_lock(
    chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "request.safetensors"
    file.write_bytes(b"incomplete")
    with Path(f"{file}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(extracted, "LOCK_TIMEOUT", 0.1)
        with pytest.raises(
            StoreError,
            match=r"request.safetensors is not complete: the server has held its lock for 0.1 seconds\nhint: look at",
        ):
            open_extracted(file)
        monkeypatch.setattr(extracted, "LOCK_TIMEOUT", 30)

        def complete() -> None:
            time.sleep(0.2)
            save_file({"hidden_states": torch.ones(2, 3, 4), "token_ids": torch.tensor([5, 6])}, file)
            fcntl.flock(lock, fcntl.LOCK_UN)

        writer = threading.Thread(target=complete)
        writer.start()
        opened = open_extracted(file)
        writer.join()
    assert (opened.token_ids, opened.n_layers, opened.d) == ((5, 6), 3, 4)
    assert opened.read().shape == (3, 2, 4)
    write_extracted(file, chat_model, [5, 6, 7], LAYERS)
    Path(f"{file}.lock").unlink()  # as without `use_synchronization_lock`
    assert open_extracted(file).token_ids == (5, 6, 7)


def test_files_of_another_user_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, framework: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(extracted, "safe_open", deny)
    with pytest.raises(
        StoreError, match=r"Permission denied(.|\n)*hint: only the user that runs the vLLM server may read its files"
    ):
        open_extracted(tmp_path / "request.safetensors")


@pytest.mark.parametrize("text", ["", "1,x", "0,1", "8,1", "1,1", "1.5", "-1", "1,,2"])
def test_server_layers_are_positive_integers_in_ascending_order(text: str) -> None:
    with pytest.raises(RunError, match=r"is not a list of positive integers in ascending order\nhint: list the `eagle"):
        parse_server_layers(text)


def test_endpoint_layers_are_checked() -> None:
    assert Endpoint("http://x/v1", layers=(1, 8)).layers == (1, 8)
    with pytest.raises(RunError, match="'8,1' is not a list of positive integers in ascending order"):
        Endpoint("http://x/v1", layers=(8, 1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"endpoint": None, "inline": None}, RunError, "--server-layers applies to answers from a vLLM server"),
        (
            {"inline": CaptureOptions(site="mlp_out")},
            RunError,
            "vLLM servers extract states at the site resid, but --site is mlp_out",
        ),
        ({"server_layers": "3,5"}, ModelError, r"--server-layers contains 5, but tiny-chat has 4 layers\nhint: list"),
        ({"server_layers": "3,1"}, RunError, "'3,1' is not a list of positive integers in ascending order"),
    ],
)
def test_answer_rejects_options_that_do_not_fit(
    options: dict[str, Any], error: type[ProbemapError], message: str, local: Run, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        answer(local, tmp_path / "run", **options)
