"""All steps from the questions to the figure, one after another."""

from typing import Any

from probemap.records import RunError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE, MAP, P_TRUE, RUN_OPTIONS, Step
from probemap.runs.execution import resolve_options, run_step
from probemap.runs.plan import Context
from probemap.runs.run import Run


def run_all(
    run: Run, context: Context = Context(), *, redo: bool = False, one_pass: bool = False, **options: Any
) -> Run:
    """Execute answer, judge, capture, p-true, map and plot; steps that are done are left as they are.

    The model is loaded once, and only if a step needs it.

    Parameters
    ----------
    run : Run
        The run directory.
    context : Context
        Logger, device and workers.
    redo : bool
        Repeat all steps; old results move to ``earlier/``.
    one_pass : bool
        Record the states during generation instead of in a second pass.
    **options
        Options of the steps; see `RUN_OPTIONS`.  An option that is not given keeps the value that the run directory
        records, or else its default.

    Returns
    -------
    Run
        The same run.

    Raises
    ------
    ProbemapError
        If a step fails; the run directory keeps what is complete.

    Examples
    --------
    >>> import tempfile
    >>> import probemap
    >>> run = probemap.Run(tempfile.mkdtemp())
    >>> probemap.run_all(run, data="cities", model="smollm2-135m", folds=10)
    Traceback (most recent call last):
        ...
    probemap.records.RunError: a complete run has no option 'folds'
    hint: its options are data, model, n, ...
    """
    from probemap.runs.steps.plot import plot

    if unknown := sorted(set(options) - set(RUN_OPTIONS)):
        raise RunError(
            f"a complete run has no option {unknown[0]!r}",
            f"its options are {', '.join(RUN_OPTIONS)}; execute the step with the other option first",
        )

    def options_of(step: Step[Any, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if step in RUN_OPTIONS[name]}

    answer_options = options_of(ANSWER)
    if one_pass:
        locator = resolve_options(JUDGE, run, options_of(JUDGE)).locator
        if locator == "auto":
            answer_options["inline"] = resolve_options(CAPTURE, run, options_of(CAPTURE))
        else:
            context.logger.log(f"the locator {locator} needs all answers: the states are captured in a second pass")
    run_step(ANSWER, run, context, redo=redo, **answer_options)
    run_step(JUDGE, run, context, redo=redo, **options_of(JUDGE))
    if context.pool is not None:
        context.models.clear()  # the workers need the memory
    run_step(CAPTURE, run, context, redo=redo, **options_of(CAPTURE))
    if resolve_options(MAP, run, options_of(MAP)).baselines:
        run_step(P_TRUE, run, context, redo=redo, **options_of(P_TRUE))
    context.models.clear()  # the probes need the memory
    run_step(MAP, run, context, redo=redo, **options_of(MAP))
    plot([run], logger=context.logger)
    return run
