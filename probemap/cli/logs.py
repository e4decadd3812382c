"""Command for logs of other tools: export-log."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from probemap.cli import flags
from probemap.cli.console import open_run, say, stdout

app = typer.Typer()


@app.command("export-log", epilog="Example:  probemap export-log RUN --out LOGS --model-id owner/name")
def export_log(
    folder: flags.RunDirectory,
    out: Annotated[Path, typer.Option("--out", help="Output directory; created if needed.")],
    log_format: Annotated[Literal["every-eval-ever"], typer.Option("--format", help="Format of the log.")] = (
        "every-eval-ever"
    ),
    model_id: Annotated[
        str | None,
        typer.Option(help="Id of the model on the Hugging Face hub. Default: the name with which it was loaded."),
    ] = None,
) -> None:
    """Write the answers, the verdicts and the probabilities that the answers are correct, for other tools.

    The probabilities are those of the best cell of the map, from probes that
    were fitted without the answer.
    """
    from probemap.runs.steps.export_log import export_log as write_log

    aggregate, samples, n_undecided = write_log(open_run(folder), out, log_format=log_format, model_id=model_id)
    if n_undecided:
        say(f"{n_undecided} answers without a verdict are left out, because the format requires one")
    for path in (aggregate, samples):
        stdout.print(str(path), markup=False, soft_wrap=True)
