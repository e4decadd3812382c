"""The command line: one verb, one library call.  Printing and exit status, no logic.

Data goes to stdout, talk to stderr.  Exit status: 0 fine, 1 what the user can mend, 2 usage.
"""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from probemap.records import ProbemapError

app = typer.Typer(
    name="probemap",
    help="Where in a language model's hidden states can you read that its answer is wrong?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[str, typer.Argument(help="A built-in task or a .jsonl, .csv or .parquet file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Out = Annotated[Path, typer.Option("--out", help="The run folder, made if it is not there.")]
ModelName = Annotated[
    str, typer.Option("--model", help="Hub id, local folder, .gguf file, or an alias (smollm2-135m).")
]
Revision = Annotated[str | None, typer.Option(help="Of the hub: a branch, tag or commit.")]
N = Annotated[int | None, typer.Option("--n", help="Draw this many questions; default: all.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the draw, of sampling and of the folds.")]
Prompt = Annotated[str | None, typer.Option(help="Prompt template: {question}, {context}, {choices}.")]
Frame = Annotated[
    Literal["auto", "chat", "qa", "none"],
    typer.Option(help="Around the prompt: the chat template, `Q: … A:`, or nothing."),
]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Default: as the task says.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Answers per batch.")]
BatchTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens per batch, padding included; default: as many as --batch-size makes.")
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Dtype = Annotated[str, typer.Option(help="Of the weights: auto, float32, bfloat16, float16.")]
Locator = Annotated[
    Literal["auto", "names", "numbers", "model", "none", "paper"],
    typer.Option(
        help="How the exact answer is found; auto follows the task. With paper the place depends on whether the "
        "answer was right: for comparison only."
    ),
]
Positions = Annotated[str | None, typer.Option(help="e.g. last_q,exact_answer_first,-8..-1; default: all fifteen.")]
StoreDtype = Annotated[Literal["float32", "float16"], typer.Option(help="Of the stored states.")]
Site = Annotated[
    str,
    typer.Option(
        help="Read in each block: resid (the residual stream after it), attn_out, mlp_out (what its attention or MLP "
        "returns), mlp_hidden (the input of the MLP's last projection); or NAME=PATH, the module PATH inside a block."
    ),
]
Folds = Annotated[int, typer.Option(min=2, help="Cross-validation folds.")]
Repeats = Annotated[int, typer.Option(min=1, help="Do it again with other folds, and average.")]
C = Annotated[str, typer.Option("--c", help="Inverse strength of the L2 penalty: 0.1, several as 0.01,1,100, or auto.")]
Permutations = Annotated[
    int, typer.Option(min=0, help="Shuffle the labels so often: what the highest cell is by luck.")
]
CommonRows = Annotated[
    bool, typer.Option("--common-rows", help="Score every column on the answers with all positions.")
]
Baselines = Annotated[bool, typer.Option(help="Score what needs no hidden states on the same answers, and the gain.")]
Protocol = Annotated[
    Literal["probemap", "paper"],
    typer.Option(help="paper: as the research code does it, for comparison; with run also its locator and mlp_out."),
]
Redo = Annotated[bool, typer.Option("--redo", help="Make it again; the old result goes to RUN/earlier.")]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


@contextmanager
def _talk() -> Iterator[Any]:
    """A `Talk` with a progress bar on stderr."""
    from probemap.options import Talk

    columns = (TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr) as bar:
        rows: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what, total=total)
            bar.update(rows[what], completed=done)

        yield Talk(lambda text: _say(text), progress)


def _say(text: str) -> None:
    from probemap.terminal import printable

    for line in text.split("\n"):
        stderr.print(printable(line), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap run cities --model smollm2-135m --out RUN")
def run(
    data: Data,
    model: ModelName,
    out: Out,
    revision: Revision = None,
    n: N = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    frame: Frame = "auto",
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 32,
    batch_tokens: BatchTokens = None,
    temperature: Temperature = 0.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    locator: Locator = "auto",
    positions: Positions = None,
    store_dtype: StoreDtype = "float32",
    site: Site = "resid",
    folds: Folds = 5,
    repeats: Repeats = 1,
    c: C = "1",
    permutations: Permutations = 0,
    common_rows: CommonRows = False,
    baselines: Baselines = True,
    protocol: Protocol = "probemap",
    redo: Redo = False,
) -> None:
    """Questions to picture: answer, judge, capture, p-true, map and plot, going on where it stopped."""
    from probemap import options, pipeline

    with _talk() as talk:
        made = pipeline.run_all(
            data,
            options.Loader(model, revision, device, dtype),
            out,
            options.Answering(n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens),
            options.Capturing(positions, batch_size, store_dtype, site, batch_tokens),
            options.Probing(folds, repeats, c, permutations, common_rows, baselines, seed, device, protocol),
            locator=locator,
            redo=redo,
            talk=talk,
        )
    _show(made)
    _say(f"the picture: {made.path / 'map.png'} and {made.path / 'map.svg'}")


@app.command(epilog="Example:  probemap demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("demo"),
    redo: Redo = False,
) -> None:
    """A real model, 500 real questions, the picture: `probemap run` with everything chosen."""
    from probemap.options import DEMO_DATA, DEMO_MODEL, DEMO_N

    run(DEMO_DATA, DEMO_MODEL, out, n=DEMO_N, redo=redo)


@app.command(epilog="Example:  probemap answer rows.jsonl --model smollm2-135m --out RUN")
def answer(
    data: Data,
    model: ModelName,
    out: Out,
    revision: Revision = None,
    n: N = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    frame: Frame = "auto",
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 32,
    batch_tokens: BatchTokens = None,
    temperature: Temperature = 0.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    redo: Redo = False,
) -> None:
    """The model answers; writes RUN/answers.jsonl."""
    from probemap import options, pipeline

    with _talk() as talk:
        pipeline.answer(
            data,
            options.Loader(model, revision, device, dtype),
            out,
            options.Answering(n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens),
            redo=redo,
            talk=talk,
        )


@app.command(epilog="Example:  probemap judge RUN --locator model")
def judge(folder: RunFolder, locator: Locator = "auto", redo: Redo = False) -> None:
    """Verdicts and exact answers; writes RUN/verdicts.jsonl, which you may edit."""
    from probemap import pipeline

    with _talk() as talk:
        pipeline.judge(_open(folder), locator=locator, redo=redo, talk=talk)


@app.command(epilog="Example:  probemap capture RUN --positions last_q,exact_answer_last,-8..-1")
def capture(
    folder: RunFolder,
    positions: Positions = None,
    batch_size: BatchSize = 32,
    batch_tokens: BatchTokens = None,
    store_dtype: StoreDtype = "float32",
    site: Site = "resid",
    device: Device = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of the weights; default: as it answered.")] = None,
    redo: Redo = False,
) -> None:
    """Hidden states at the named positions, at every layer; writes RUN/activations."""
    from probemap import options, pipeline

    opened = _open(folder)
    with _talk() as talk:
        pipeline.capture(
            opened,
            options.Capturing(positions, batch_size, store_dtype, site, batch_tokens),
            loader=pipeline.loader_of(opened, device, dtype),
            redo=redo,
            talk=talk,
        )


@app.command("p-true", epilog="Example:  probemap p-true RUN")
def p_true(
    folder: RunFolder,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    redo: Redo = False,
) -> None:
    """The model is asked whether its own answers are true; writes RUN/p_true.jsonl, a baseline of the map."""
    from probemap import pipeline

    opened = _open(folder)
    with _talk() as talk:
        loader = pipeline.loader_of(opened, device)
        pipeline.ask_p_true(opened, loader=loader, batch_size=batch_size, redo=redo, talk=talk)


@app.command("map", epilog="Example:  probemap map RUN --c auto --permutations 100 --redo")
def map_(
    folder: RunFolder,
    folds: Folds = 5,
    repeats: Repeats = 1,
    c: C = "1",
    permutations: Permutations = 0,
    common_rows: CommonRows = False,
    baselines: Baselines = True,
    seed: Seed = 0,
    device: Device = "auto",
    protocol: Protocol = "probemap",
    redo: Redo = False,
) -> None:
    """One probe per (layer, position) cell, and its baselines; writes RUN/map.nc and RUN/map.csv."""
    from probemap import analysis, options

    with _talk() as talk:
        probing = options.Probing(folds, repeats, c, permutations, common_rows, baselines, seed, device, protocol)
        analysis.make_map(_open(folder), probing, redo=redo, talk=talk)


@app.command(epilog="Example:  probemap plot RUN --out figure.pdf --cmap cividis")
def plot(
    folder: RunFolder,
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf.")] = None,
    cmap: Annotated[str, typer.Option(help="A matplotlib colour map.")] = "Blues",
) -> None:
    """The picture; writes RUN/map.png and RUN/map.svg, or the file you name."""
    from probemap import analysis

    with _talk() as talk:
        for path in analysis.plot(_open(folder), out=out, cmap=cmap, talk=talk):
            stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap show RUN")
def show(folder: RunFolder) -> None:
    """The map in the terminal: cells, best cells, counts, what was left out and why."""
    _show(_open(folder))


def _show(opened: Any) -> None:
    from probemap import contents, terminal

    probe_map = contents.read_map(opened, _say)
    terminal.print_to(stdout, terminal.show(probe_map, opened.judgements()))


@app.command(epilog="Example:  probemap inspect RUN city-Vienna")
def inspect(
    folder: RunFolder,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the first.")] = None,
) -> None:
    """One answer, token by token, with the position names under the tokens."""
    from probemap import contents, terminal

    example, said, judgement = contents.one_answer(_open(folder), id_)
    width = shutil.get_terminal_size((100, 24)).columns
    terminal.print_to(stdout, terminal.inspect(example, said, judgement, width=width))


@app.command(epilog="Example:  probemap tasks")
def tasks() -> None:
    """The built-in tasks, and the published data sets that are known by name."""
    from probemap.data import TASKS
    from probemap.published import PUBLISHED

    for name, line in TASKS.items():
        task = line.load()
        stdout.print(f"{name:<17} {len(task.examples):>4} questions  {line.meaning}", soft_wrap=True)
    for name, published in PUBLISHED.items():
        where = "file only" if published.hub is None else published.hub.repository
        stdout.print(f"{name:<17} {published.meaning}  ({where}; {published.task.source})", soft_wrap=True)


@app.command(epilog="Example:  probemap positions")
def positions() -> None:
    """The named token positions."""
    from probemap.positions import POSITIONS

    for name, position in POSITIONS.items():
        stdout.print(f"{name:<26} {position.meaning}", soft_wrap=True)
    last = "counted from the answer's last token; missing if it lies in the prompt"
    stdout.print(f"{'-1, -2, …':<26} {last}", soft_wrap=True)


def _open(folder: Path) -> Any:
    from probemap.run import Run

    return Run.open(folder)


def main() -> None:
    """Run the command line; what the user can mend becomes a message and exit status 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except ProbemapError as error:
        _say(f"error: {error}")
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        sys.exit(130)
    except OSError as error:
        if error.errno not in _FULL | _FORBIDDEN:
            raise
        where = f": {error.filename}" if error.filename else ""
        hint = "free some space" if error.errno in _FULL else "check the folder and its rights"
        _say(f"error: {error.strerror}{where}\nhint: {hint}; the same command goes on where it stopped")
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
