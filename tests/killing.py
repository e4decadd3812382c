"""The command line in processes that are forked after the imports, and that can be killed at a call of a function."""

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

Kill = tuple[str, str, int]
"""A module, a function in it, and the number of the call at which the process dies."""

_IMPORTED = ["probemap.cli.main", "probemap.runs.definitions", "transformers.models.llama.modeling_llama", "xarray"]
_IMPORTED += ["zarr", "scipy.io", "sklearn.linear_model", "matplotlib.figure"]
"""Modules that take seconds to import, and that a run needs."""

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(_IMPORTED)


def started(words: Sequence[str], log: Path, kill: Kill | None = None) -> ForkServerProcess:
    """Start the command line, with its output in a file.  With `kill`, the process dies by SIGKILL at that call."""
    process = _FORKED.Process(target=_run, args=(words, log, kill))
    process.start()
    return process


def _run(words: Sequence[str], log: Path, kill: Kill | None) -> None:
    from probemap.cli.main import main

    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if kill:
        _die_at(*kill)
    sys.argv = ["probemap", *words]
    main()


def _die_at(module: str, name: str, number: int) -> None:
    owner: Any = importlib.import_module(module)
    *classes, attribute = name.split(".")
    for class_name in classes:
        owner = getattr(owner, class_name)
    original, calls = getattr(owner, attribute), [0]

    def deadly(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, attribute, deadly)
