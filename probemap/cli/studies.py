"""The verbs of the paper's other questions, on a run folder each."""

from typing import Annotated

import typer

from probemap.cli import flags
from probemap.cli.console import opened, talking

app = typer.Typer()


@app.command(epilog="Example:  probemap resample RUN --k 30 --temperature 1")
def resample(
    folder: flags.RunFolder,
    k: Annotated[int, typer.Option("--k", min=2, help="How often each question is asked.")] = 30,
    temperature: Annotated[float, typer.Option(min=0.01, help="Above 0: the answers must differ.")] = 1.0,
    seed: flags.Seed = 0,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    device: flags.Device = "auto",
    redo: flags.Redo = False,
) -> None:
    """Every question asked again and again, for errors, choose and semantic entropy; writes RUN/resamples.jsonl."""
    from probemap.options import Resampling
    from probemap.runs import contents, resampling

    made = opened(folder)
    with talking() as talk:
        options = Resampling(k, temperature, seed, batch_size, batch_tokens)
        resampling.resample(made, options, loader=contents.loader_of(made, device), redo=redo, talk=talk)
