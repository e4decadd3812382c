"""Options shared by several commands, and typer parameters for each step's options."""

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probemap.runs.options import Option, option_metadata

RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]
RunDirectories = Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run directories.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of answers per batch.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")]
C = Annotated[str, typer.Option("--c", help="Inverse L2 penalty: a number, several numbers (0.01,1,100), or auto.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, …, or spread (all GPUs).")]
MaxMemory = Annotated[str | None, typer.Option(help="Maximum memory per GPU with --device spread, e.g. 20GiB.")]
Engine = Annotated[
    Literal["local", "ray", "vllm"],
    typer.Option(help="Run in this process, on Ray workers (requires ray), or with vLLM."),
]
ModelEngine = Annotated[Literal["local", "vllm"], typer.Option(help="Run the model in this process, or with vLLM.")]
ENGINES: dict[str, Literal["transformers", "vllm"]] = {"local": "transformers", "ray": "transformers", "vllm": "vllm"}
"""Mapping from the values of ``--engine`` to the library that runs the model."""
Pool = Annotated[Literal["local", "ray"], typer.Option(help="Run in this process, or on Ray workers (requires ray).")]
Workers = Annotated[int, typer.Option(min=1, help="Number of Ray workers.")]
GpusPerWorker = Annotated[
    float,
    typer.Option(
        min=0, help="GPUs per Ray worker: with 0.5, two workers share a GPU; with 2, a model is spread over two GPUs."
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Part of the work to do, e.g. 2/8, if other processes do the rest. auto: taken from SLURM or torchrun."
    ),
]
Defaults = Annotated[
    bool,
    typer.Option("--defaults", help="Use defaults for omitted options instead of the values recorded in RUN."),
]
Redo = Annotated[bool, typer.Option("--redo", help="Repeat; move old results to RUN/earlier.")]

_WORKERS: dict[str, tuple[Any, Any]] = {"workers": (Workers, 1), "gpus_per_worker": (GpusPerWorker, 0.0)}

CONTEXT: dict[str, dict[str, tuple[Any, Any]]] = {
    "device": {"device": (Device, "auto")},
    "max_memory": {"max_memory": (MaxMemory, None)},
    "shard": {"shard": (Shard, None)},
    "engine": {"engine": (ModelEngine, "local")},
    "pool": {"engine": (Pool, "local"), **_WORKERS},
    "engine or pool": {"engine": (Engine, "local"), **_WORKERS},
}
"""Mapping from fields of `plan.Context` to the command-line options that set them, with their types and defaults."""


def option_parameters(options: type[Any], names: Iterable[str] | None = None) -> list[inspect.Parameter]:
    """Create command parameters for the options of a step.

    The default of every parameter is None, so that omitted options can be distinguished from options that were given.

    Parameters
    ----------
    options : type
        Dataclass that defines the options of a step.
    names : iterable of str, optional
        Names of the fields to include, in the given order.  Default: all fields.
    """
    metadata = option_metadata(options)
    defaults = {field.name: field.default for field in fields(options)}
    selected = list(metadata) if names is None else list(names)
    return [_parameter(name, *metadata[name], defaults[name]) for name in selected if metadata[name][1].help]


def _parameter(name: str, kind: Any, option: Option, default: Any) -> inspect.Parameter:
    if option.metavar:
        info: Any = typer.Argument(metavar=option.metavar, help=option.help, show_default=False)
    else:
        shown = (
            ""
            if default is None or default is MISSING or default is False or default == ""
            else f" [default: {_shown(default)}]"
        )
        flag = f"--{option.flag or name.replace('_', '-')}"
        is_bool = kind is bool
        info = typer.Option(
            *([f"{flag}/--no-{flag[2:]}"] if is_bool else [flag]),
            min=option.minimum,
            max=option.maximum,
            show_default=False,
            help=option.help + shown,
        )
    return keyword(name, Annotated[kind | None, info], None)


def keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """Create a keyword-only parameter for the signature of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _shown(default: Any) -> str:
    if default is True:
        return "on"
    return f"{default:g}" if isinstance(default, float) else str(default)
