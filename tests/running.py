"""Execution of one step in tests."""

from pathlib import Path
from typing import Any

from probemap.runs.definitions import Step
from probemap.runs.execution import run_step
from probemap.runs.plan import Context
from probemap.runs.run import Run


def execute(
    step: Step[Any, Any],
    run: Run | Path,
    context: Context = Context(),
    *,
    redo: bool = False,
    defaults: bool = False,
    **options: Any,
) -> Run:
    """Execute a step on a run, or in a directory, and return the run."""
    run = run if isinstance(run, Run) else Run(run)
    run_step(step, run, context, redo=redo, defaults=defaults, **options)
    return run
