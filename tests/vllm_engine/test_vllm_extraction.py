"""A vLLM server that extracts hidden states, against a local capture.  These tests need vLLM: ``make vllm``."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from probemap.runs.definitions import ANSWER
from probemap.runs.execution import run_step
from probemap.runs.options import CaptureOptions
from probemap.runs.plan import Context
from vllm_engine.test_vllm_run import CAPTURE, answered_run, states_of


@pytest.fixture(scope="module")
def url(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    layers = {"hf_config": {"eagle_aux_hidden_state_layer_ids": [1, 3]}}
    speculation = {"method": "extract_hidden_states", "num_speculative_tokens": 1, "draft_model_config": layers}
    connector = {
        "kv_connector": "CPUHiddenStatesConnector",
        "kv_connector_module_path": "cpu_connector",
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {"shared_storage_path": str(folder / "states")},
    }
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(chat_folder),
        "--port",
        str(port),
    ]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "256", "--max-num-seqs", "8"]
    command += ["--enforce-eager", "--no-enable-chunked-prefill", "--no-enable-prefix-caching"]
    command += ["--speculative-config", json.dumps(speculation), "--kv-transfer-config", json.dumps(connector)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "VLLM_CPU_KVCACHE_SPACE": "1"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def test_states_of_a_vllm_server_equal_a_local_capture(url: str, chat_folder: Path, tmp_path: Path) -> None:
    inline = CaptureOptions(positions=CAPTURE["positions"])
    served = answered_run(
        tmp_path / "served", chat_folder, Context(), endpoint=url, server_layers="1,3", inline=inline, dtype="float32"
    )
    run_step("capture", served, positions=CAPTURE["positions"])
    local = answered_run(tmp_path / "local", chat_folder, Context(), dtype="float32")
    run_step("capture", local, **CAPTURE)
    assert [answer.token_ids for answer in served.answers] == [answer.token_ids for answer in local.answers]
    states, expected = states_of(served), states_of(local)
    np.testing.assert_array_equal(np.isnan(states), np.isnan(expected))
    distance = np.linalg.norm(states - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.nanmax(distance) < 1e-4
    assert (states != expected)[:, :, :3].any(), "the states are those of the server"
    assert served.record(ANSWER).options.server_layers == "1,3"
