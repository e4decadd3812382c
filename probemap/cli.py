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
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from probemap import flags
from probemap.records import ProbemapError

app = typer.Typer(
    name="probemap",
    help="Where in a language model's hidden states can you read that its answer is wrong?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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
    data: flags.Data,
    model: flags.ModelName,
    out: flags.Out,
    revision: flags.Revision = None,
    n: flags.N = None,
    seed: flags.Seed = 0,
    prompt: flags.Prompt = None,
    frame: flags.Frame = "auto",
    max_new_tokens: flags.MaxNewTokens = None,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    temperature: flags.Temperature = 0.0,
    answers: flags.Answers = None,
    endpoint: flags.Url = None,
    served_name: flags.ServedName = "",
    in_flight: flags.InFlight = 16,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    quantize: flags.Quantize = None,
    max_memory: flags.MaxMemory = None,
    locator: flags.Locator = "auto",
    positions: flags.Positions = None,
    store_dtype: flags.StoreDtype = "float32",
    site: flags.Site = "resid",
    store: flags.Store = None,
    folds: flags.Folds = 5,
    repeats: flags.Repeats = 1,
    c: flags.C = "1",
    permutations: flags.Permutations = 0,
    common_rows: flags.CommonRows = False,
    baselines: flags.Baselines = True,
    protocol: flags.Protocol = "probemap",
    redo: flags.Redo = False,
) -> None:
    """Questions to picture: answer, judge, capture, p-true, map and plot, going on where it stopped."""
    from probemap import options, pipeline

    asked = (n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens)
    server = options.Endpoint(endpoint, served_name, in_flight) if endpoint else None
    with _talk() as talk:
        made = pipeline.run_all(
            data,
            options.Loader(model, revision, device, dtype, quantize, max_memory),
            out,
            options.Answering(*asked, answers, server),
            options.Capturing(positions, batch_size, store_dtype, site, batch_tokens, store),
            options.Probing(
                folds,
                repeats,
                c,
                permutations,
                common_rows,
                baselines,
                seed,
                "auto" if device == "spread" else device,
                protocol,
            ),
            locator=locator,
            redo=redo,
            talk=talk,
        )
    _show(made)
    _say(f"the picture: {made.path / 'map.png'} and {made.path / 'map.svg'}")


@app.command(epilog="Example:  probemap demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("demo"),
    redo: flags.Redo = False,
) -> None:
    """A real model, 500 real questions, the picture: `probemap run` with everything chosen."""
    from probemap.options import DEMO_DATA, DEMO_MODEL, DEMO_N

    run(DEMO_DATA, DEMO_MODEL, out, n=DEMO_N, redo=redo)


@app.command(epilog="Example:  probemap answer rows.jsonl --model smollm2-135m --out RUN")
def answer(
    data: flags.Data,
    model: flags.ModelName,
    out: flags.Out,
    revision: flags.Revision = None,
    n: flags.N = None,
    seed: flags.Seed = 0,
    prompt: flags.Prompt = None,
    frame: flags.Frame = "auto",
    max_new_tokens: flags.MaxNewTokens = None,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    temperature: flags.Temperature = 0.0,
    answers: flags.Answers = None,
    endpoint: flags.Url = None,
    served_name: flags.ServedName = "",
    in_flight: flags.InFlight = 16,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    quantize: flags.Quantize = None,
    max_memory: flags.MaxMemory = None,
    redo: flags.Redo = False,
) -> None:
    """The model answers; writes RUN/answers.jsonl."""
    from probemap import options, pipeline

    asked = (n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens)
    server = options.Endpoint(endpoint, served_name, in_flight) if endpoint else None
    with _talk() as talk:
        pipeline.answer(
            data,
            options.Loader(model, revision, device, dtype, quantize, max_memory),
            out,
            options.Answering(*asked, answers, server),
            redo=redo,
            talk=talk,
        )


@app.command(epilog="Example:  probemap judge RUN --locator model")
def judge(folder: flags.RunFolder, locator: flags.Locator = "auto", redo: flags.Redo = False) -> None:
    """Verdicts and exact answers; writes RUN/verdicts.jsonl, which you may edit."""
    from probemap import pipeline

    with _talk() as talk:
        pipeline.judge(_open(folder), locator=locator, redo=redo, talk=talk)


@app.command(epilog="Example:  probemap capture RUN --positions last_q,exact_answer_last,-8..-1")
def capture(
    folder: flags.RunFolder,
    positions: flags.Positions = None,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    store_dtype: flags.StoreDtype = "float32",
    site: flags.Site = "resid",
    store: flags.Store = None,
    shard: flags.Shard = None,
    device: flags.Device = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of the weights; default: as it answered.")] = None,
    max_memory: flags.MaxMemory = None,
    redo: flags.Redo = False,
) -> None:
    """Hidden states at the named positions, at every layer; writes RUN/activations."""
    from probemap import capturing, contents, options, shares

    opened = _open(folder)
    with _talk() as talk:
        capturing.capture(
            opened,
            options.Capturing(positions, batch_size, store_dtype, site, batch_tokens, store),
            share=shares.parse_share(shard) if shard else None,
            loader=contents.loader_of(opened, device, dtype, max_memory),
            redo=redo,
            talk=talk,
        )


@app.command("import-states", epilog="Example:  probemap import-states RUN EXTRACTED --layers 1,8,16,24")
def import_states(
    folder: flags.RunFolder,
    extracted: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the .safetensors files that vLLM wrote.")],
    layers: Annotated[str, typer.Option(help="vLLM's eagle_aux_hidden_state_layer_ids, in its order, with commas.")],
    positions: flags.Positions = None,
    redo: flags.Redo = False,
) -> None:
    """Take hidden states that vLLM extracted while it answered; writes RUN/activations."""
    from probemap import capturing

    with _talk() as talk:
        ids = flags.whole_numbers(layers)
        capturing.import_states(_open(folder), extracted, ids, positions=positions, redo=redo, talk=talk)


@app.command(epilog="Example:  probemap verify RUN --repair")
def verify(
    folder: flags.RunFolder,
    repair: Annotated[bool, typer.Option("--repair", help="Capture broken shards again, and nothing else.")] = False,
    device: flags.Device = "auto",
) -> None:
    """Are the captured states what was written, bit by bit?  Exit status 1 if they are not, and stay so."""
    from probemap import capturing, terminal

    with _talk() as talk:
        found = capturing.verify(_open(folder), repair=repair, device=device, talk=talk)
    terminal.print_to(stdout, terminal.faults(found, repair))
    if found and not repair:
        sys.exit(1)


@app.command(epilog="Example:  probemap check RUN --n 32")
def check(
    folder: flags.RunFolder,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers, drawn by --seed.")] = 16,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
) -> None:
    """Do captured states depend on the batch?  A few answers again, each alone and in float32, and the difference."""
    from probemap import capturing, terminal

    with _talk() as talk:
        found = capturing.check(_open(folder), n=n, seed=seed, device=device, talk=talk)
    terminal.print_to(stdout, terminal.parity(found))


@app.command("p-true", epilog="Example:  probemap p-true RUN")
def p_true(
    folder: flags.RunFolder,
    batch_size: flags.BatchSize = 32,
    device: flags.Device = "auto",
    redo: flags.Redo = False,
) -> None:
    """The model is asked whether its own answers are true; writes RUN/p_true.jsonl, a baseline of the map."""
    from probemap import contents, pipeline

    opened = _open(folder)
    with _talk() as talk:
        loader = contents.loader_of(opened, device)
        pipeline.ask_p_true(opened, loader=loader, batch_size=batch_size, redo=redo, talk=talk)


@app.command("map", epilog="Example:  probemap map RUN --c auto --permutations 100 --redo")
def map_(
    folder: flags.RunFolder,
    folds: flags.Folds = 5,
    repeats: flags.Repeats = 1,
    c: flags.C = "1",
    permutations: flags.Permutations = 0,
    common_rows: flags.CommonRows = False,
    baselines: flags.Baselines = True,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
    protocol: flags.Protocol = "probemap",
    redo: flags.Redo = False,
) -> None:
    """One probe per (layer, position) cell, and its baselines; writes RUN/map.nc and RUN/map.csv."""
    from probemap import analysis, options

    with _talk() as talk:
        probing = options.Probing(folds, repeats, c, permutations, common_rows, baselines, seed, device, protocol)
        analysis.make_map(_open(folder), probing, redo=redo, talk=talk)


@app.command(epilog="Example:  probemap plot RUN --out figure.pdf --cmap cividis")
def plot(
    folder: flags.RunFolder,
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf.")] = None,
    cmap: Annotated[str, typer.Option(help="A matplotlib colour map.")] = "Blues",
) -> None:
    """The picture; writes RUN/map.png and RUN/map.svg, or the file you name."""
    from probemap import analysis

    with _talk() as talk:
        for path in analysis.plot(_open(folder), out=out, cmap=cmap, talk=talk):
            stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap show RUN")
def show(folder: flags.RunFolder) -> None:
    """The map in the terminal: cells, best cells, counts, what was left out and why."""
    _show(_open(folder))


def _show(opened: Any) -> None:
    from probemap import contents, terminal

    probe_map = contents.read_map(opened, _say)
    terminal.print_to(stdout, terminal.show(probe_map, opened.judgements()))


@app.command(epilog="Example:  probemap inspect RUN city-Vienna")
def inspect(
    folder: flags.RunFolder,
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
