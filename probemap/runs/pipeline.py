"""Execute all steps, from loading the questions to drawing the figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probemap.records import RunError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE, MAP, P_TRUE, RUN_OPTIONS, Step
from probemap.runs.execution import resolve_options, run_step
from probemap.runs.plan import Context

if TYPE_CHECKING:
    from probemap.runs.run import Run


def run_all(run: Run, context: Context = Context(), *, redo: bool = False, **options: Any) -> Run:
    """Run the ``answer``, ``judge``, ``capture``, ``p-true``, ``map`` and ``plot`` steps.

    Steps that are already done are skipped.  The model is loaded when a step first needs it.  If this package generates
    the answers, the states are recorded during generation.

    Parameters
    ----------
    run : Run
        The run directory.
    context : Context
        The logger, device and workers to use.
    redo : bool
        Whether to repeat all steps.  Previous results are moved to ``earlier/`` in the run directory.
    **options
        Options for the steps; see `RUN_OPTIONS`.  An omitted option keeps the value recorded in the run directory.  If
        there is no record, it takes its default value.

    Returns
    -------
    Run
        The run that was passed in.

    Raises
    ------
    ProbemapError
        If a step fails.  All results obtained so far are kept in the run directory.

    Examples
    --------
    >>> import tempfile
    >>> import probemap
    >>> run = probemap.Run(tempfile.mkdtemp())
    >>> probemap.run_all(run, data="cities", model="smollm2-135m", folds=10)
    Traceback (most recent call last):
        ...
    probemap.records.RunError: a complete run has no option 'folds'
    hint: its options are data, model, select, n, ...
    """
    from probemap.logs.importing import is_log
    from probemap.runs.steps.plot import plot

    if unknown := sorted(set(options) - set(RUN_OPTIONS)):
        raise RunError(
            f"a complete run has no option {unknown[0]!r}",
            f"its options are {', '.join(RUN_OPTIONS)}; for other options, execute the step itself first",
        )

    def options_of(step: Step[Any, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if step in RUN_OPTIONS[name]}

    answer_options = options_of(ANSWER)
    answering = resolve_options(ANSWER, run, answer_options)
    is_extracted = answering.server_layers is not None
    are_generated = answering.are_generated and not is_log(str(answering.data))
    if are_generated or is_extracted:
        locator = resolve_options(JUDGE, run, options_of(JUDGE)).locator
        if is_extracted or locator in ("auto", "rules"):
            answer_options["inline"] = resolve_options(CAPTURE, run, options_of(CAPTURE))
        else:
            context.logger.log(f"the locator {locator} needs all answers, so the states are captured in a second pass")
    run_step(ANSWER, run, context, redo=redo, **answer_options)
    run_step(JUDGE, run, context, redo=redo, **options_of(JUDGE))
    if context.pool is not None:
        context.release()  # free the memory for the workers
    run_step(CAPTURE, run, context, redo=redo, **options_of(CAPTURE))
    if resolve_options(MAP, run, options_of(MAP)).baselines:
        run_step(P_TRUE, run, context, redo=redo, **options_of(P_TRUE))
    context.release()  # free the memory for the probes
    run_step(MAP, run, context, redo=redo, **options_of(MAP))
    plot([run], logger=context.logger)
    return run
