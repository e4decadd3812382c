"""Execute a step: skip it if it is done, resume it if it was interrupted, and repeat it only on request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from probemap.records import RunError
from probemap.runs.definitions import STEPS, Facts, Options, Step
from probemap.runs.options import option_metadata
from probemap.runs.plan import Context, Plan

if TYPE_CHECKING:
    from probemap.runs.run import Run

_WAIT = 600.0
"""Maximum time in seconds to wait for the lock when several processes execute a step together.

Each of these processes holds the lock only briefly.
"""


def run_step(
    step: str | Step[Any, Any],
    run: Run,
    context: Context = Context(),
    *,
    redo: bool = False,
    defaults: bool = False,
    **options: Any,
) -> None:
    """Execute a step of a run.

    A step that is already done with the same options and inputs is skipped, and an interrupted step is resumed.

    Parameters
    ----------
    step : str or Step
        The step, or its name (a key of `STEPS`).
    run : Run
        The run directory.
    context : Context
        The logger, device and workers to use.
    redo : bool
        Whether to repeat the step if it is already done.  The previous result is moved to ``earlier/`` in the run
        directory.
    defaults : bool
        Whether omitted options take their default values instead of the values recorded in the run directory.
    **options
        Options for the step (fields of ``step.options``).  An omitted option keeps the value recorded in the run
        directory.  If there is no record, it takes its default value.

    Raises
    ------
    RunError
        If an option does not exist, if an input is missing, if another process is working in the directory, or if the
        step has results for different options or inputs and `redo` is False.

    Examples
    --------
    >>> import tempfile
    >>> import probemap
    >>> probemap.run_step("answer", probemap.Run(tempfile.mkdtemp()), data="cities")
    Traceback (most recent call last):
        ...
    probemap.records.RunError: the step answer needs a value for model
    hint: give --model, or model=...
    """
    step = STEPS[step] if isinstance(step, str) else step
    implementation = import_module(f"probemap.runs.steps.{step.module}")
    for prerequisite in getattr(implementation, "prerequisites", lambda run: ())(run):
        run_step(prerequisite, run, context)
    concurrent = context.shard is not None
    if concurrent and redo:
        raise RunError(
            "--redo would move the shards of other processes to earlier/",
            "use --redo without --shard, or use a new run directory",
        )
    with run.locked(_WAIT if concurrent else 0):
        plan: Plan[Any] = implementation.plan(run, resolve_options(step, run, options, defaults), context)
        if not run.begin(step, plan.options, plan.inputs, redo=redo, log=context.logger.log):
            return
        started = time.monotonic()
        if not concurrent:
            plan.execute()
            run.finish(step, time.monotonic() - started)
            return
    if plan.execute():
        with run.locked(_WAIT):
            run.finish(step, time.monotonic() - started)


def resolve_options(step: Step[Options, Facts], run: Run, given: Mapping[str, Any], defaults: bool = False) -> Options:
    """Return all options of a step, including those that were omitted.

    An option that is not in `given` takes the value recorded in the run directory.  If there is no record, or if
    `defaults` is True, it takes its default value.

    Raises
    ------
    RunError
        If `given` contains an unknown option, or if an option without a default value is missing.
    """
    defined = fields(step.options)  # type: ignore[arg-type]
    if unknown := sorted(set(given) - {field.name for field in defined}):
        raise RunError(
            f"the step {step.name} has no option {unknown[0]!r}",
            f"its options are {', '.join(field.name for field in defined)}",
        )
    record = None if defaults else run.find_record(step)
    if record is not None:
        return replace(record.options, **given)  # type: ignore[type-var]
    required = (f.name for f in defined if f.default is MISSING and f.default_factory is MISSING)
    if missing := [name for name in required if name not in given]:
        name = missing[0]
        argument = option_metadata(step.options)[name][1].metavar or f"--{name}"
        raise RunError(f"the step {step.name} needs a value for {name}", f"give {argument}, or {name}=...")
    return step.options(**given)
