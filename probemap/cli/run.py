"""Commands that execute all steps: run and demo."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probemap.cli import flags, show, steps
from probemap.cli.console import console_logger, say
from probemap.runs.definitions import RUN_OPTIONS

app = typer.Typer()

Log = Annotated[
    Literal["mlflow", "wandb", "trackio"] | None,
    typer.Option(help="Experiment tracker to log to."),
]


def _run(out: Path, log: str | None, redo: bool, **arguments: Any) -> None:
    from probemap.runs import tracking
    from probemap.runs.pipeline import run_all
    from probemap.runs.run import Run

    if log is not None:
        tracking.check_tracker(log)
    with console_logger() as logger:
        context = steps.context_from(arguments, logger, ("device", "engine or pool"))
        try:
            run = run_all(Run(out), context, redo=redo, **steps.given(arguments))
        finally:
            context.release()
    show.show_map(run)
    say(f"figure: {run.path / 'map.png'} and {run.path / 'map.svg'}")
    if log is not None:
        tracking.track(run, log)
        say(f"logged to {log}")


def _run_parameters() -> list[Any]:
    options = [p for name, s in RUN_OPTIONS.items() for p in flags.option_parameters(s[0].options, [name])]
    options.insert(2, flags.keyword("out", steps.Out))
    return [
        *options,
        *[p for p in steps.context_parameters(("device", "engine or pool")) if p.name != "gpus_per_worker"],
        flags.keyword("log", Log, None),
        flags.keyword("redo", flags.Redo, False),
    ]


app.command("run", epilog="Example:  probemap run cities --model smollm2-135m --out RUN")(
    steps.with_signature(
        lambda **arguments: _run(**arguments),
        _run_parameters(),
        "Run the answer, judge, capture, p-true, map and plot steps.\n\nFinished steps are skipped, an interrupted "
        "step is resumed, and omitted options keep the values recorded in the run directory.  For other options, "
        "execute the step first, e.g. `probemap answer`.",
    )
)


@app.command(epilog="Example:  probemap demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Run directory; created if needed.")] = Path("demo"),
    redo: flags.Redo = False,
) -> None:
    """Run SmolLM2-135M on 500 questions about cities, and draw the map."""
    _run(out, None, redo, data="cities", model="smollm2-135m", n=500)
