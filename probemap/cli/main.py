"""The command line: one verb, one library call.  Printing and exit status, no logic.

Data goes to stdout, talk to stderr.  Exit status: 0 fine, 1 what the user can mend, 2 usage.
"""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probemap.cli import detectors, flags, studies
from probemap.cli import show as views
from probemap.cli.console import console_logger, opened, say
from probemap.records import ProbemapError, RunError

if TYPE_CHECKING:  # --help answers in a blink
    pass
if TYPE_CHECKING:  # --help answers in a blink
    from probemap.workers import RayPool

app = typer.Typer(
    name="probemap",
    help="Where in a language model's hidden states can you read that its answer is wrong?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR}


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
    layers: flags.Layers = None,
    one_pass: flags.OnePass = False,
    folds: flags.Folds = 5,
    repeats: flags.Repeats = 1,
    c: flags.C = "1",
    permutations: flags.Permutations = 0,
    common_rows: flags.CommonRows = False,
    baselines: flags.Baselines = True,
    protocol: flags.Protocol = "probemap",
    engine: flags.Engine = "local",
    workers: flags.Workers = 1,
    gpus_per_worker: flags.GpusPerWorker = 0.0,
    log: flags.Log = None,
    redo: flags.Redo = False,
) -> None:
    """Questions to picture: answer, judge, capture, p-true, map and plot, going on where it stopped."""
    from probemap.models.loading import Endpoint, Loader
    from probemap.runs import options, pipeline, tracking

    if log is not None:
        tracking.check_tracker(log)
    asked = (n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens)
    server = Endpoint(endpoint, served_name, in_flight) if endpoint else None
    capturing = options.Capturing(positions, batch_size, store_dtype, site, batch_tokens, store, layers)
    with console_logger() as logger:
        made = pipeline.run_all(
            data,
            Loader(model, revision, device, dtype, quantize, max_memory),
            out,
            options.Answering(*asked, answers, server, capturing if one_pass else None),
            options.Judging(locator),
            capturing,
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
            ray=_ray(engine, workers, gpus_per_worker),
            redo=redo,
            logger=logger,
        )
    views.show_map(made)
    say(f"the picture: {made.path / 'map.png'} and {made.path / 'map.svg'}")
    if log is not None:
        tracking.track(made, log)
        say(f"handed to {log}")


@app.command(epilog="Example:  probemap demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("demo"),
    redo: flags.Redo = False,
) -> None:
    """A real model, 500 real questions, the picture: `probemap run` with everything chosen."""
    from probemap.runs.options import DEMO_DATA, DEMO_MODEL, DEMO_N

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
    engine: flags.Engine = "local",
    workers: flags.Workers = 1,
    gpus_per_worker: flags.GpusPerWorker = 0.0,
    redo: flags.Redo = False,
) -> None:
    """The model answers; writes RUN/answers.jsonl."""
    from probemap.models.loading import Endpoint, Loader
    from probemap.runs import options, pipeline

    asked = (n, seed, prompt, frame, max_new_tokens, batch_size, temperature, batch_tokens)
    server = Endpoint(endpoint, served_name, in_flight) if endpoint else None
    with console_logger() as logger:
        pipeline.answer(
            data,
            Loader(model, revision, device, dtype, quantize, max_memory),
            out,
            options.Answering(*asked, answers, server),
            ray=_ray(engine, workers, gpus_per_worker),
            redo=redo,
            logger=logger,
        )


@app.command(epilog="Example:  probemap judge RUN --judge model --endpoint URL")
def judge(
    folder: flags.RunFolder,
    locator: flags.Locator = "auto",
    judge: flags.Judge = "rules",
    endpoint: flags.JudgeUrl = None,
    served_name: flags.ServedName = "",
    in_flight: flags.InFlight = 16,
    decided: flags.Decided = None,
    redo: flags.Redo = False,
) -> None:
    """Verdicts and exact answers; writes RUN/verdicts.jsonl, which you may edit."""
    from probemap.models.loading import Endpoint
    from probemap.runs import options
    from probemap.runs.steps import judge as judging

    server = Endpoint(endpoint, served_name, in_flight) if endpoint else None
    with console_logger() as logger:
        judging.judge(opened(folder), options.Judging(locator, judge, server, decided), redo=redo, logger=logger)


@app.command(epilog="Example:  probemap capture RUN --positions last_q,exact_answer_last,-8..-1")
def capture(
    folder: flags.RunFolder,
    positions: flags.Positions = None,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    store_dtype: flags.StoreDtype = "float32",
    site: flags.Site = "resid",
    store: flags.Store = None,
    layers: flags.Layers = None,
    shard: flags.Shard = None,
    device: flags.Device = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of the weights; default: as it answered.")] = None,
    max_memory: flags.MaxMemory = None,
    engine: flags.Engine = "local",
    workers: flags.Workers = 1,
    gpus_per_worker: flags.GpusPerWorker = 0.0,
    redo: flags.Redo = False,
) -> None:
    """Hidden states at the named positions, at every layer; writes RUN/activations."""
    from probemap import workers as worker_pools
    from probemap.runs import integrity as contents
    from probemap.runs import options
    from probemap.runs.steps import capture as capturing

    made = opened(folder)
    with console_logger() as logger:
        capturing.capture(
            made,
            options.Capturing(positions, batch_size, store_dtype, site, batch_tokens, store, layers),
            share=worker_pools.parse_shard(shard) if shard else None,
            ray=_ray(engine, workers, gpus_per_worker),
            loader=contents.loader_of(made, device, dtype, max_memory),
            redo=redo,
            logger=logger,
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
    from probemap.runs.steps import capture as capturing

    with console_logger() as logger:
        ids = flags.whole_numbers(layers)
        capturing.import_states(opened(folder), extracted, ids, positions=positions, redo=redo, logger=logger)


@app.command(epilog="Example:  probemap attention RUN")
def attention(
    folder: flags.RunFolder,
    positions: flags.Positions = None,
    batch_size: flags.BatchSize = 8,
    batch_tokens: flags.BatchTokens = None,
    device: flags.Device = "auto",
    redo: flags.Redo = False,
) -> None:
    """How much attention each position receives, at every layer; writes RUN/attention."""
    from probemap.runs import integrity as contents
    from probemap.runs.steps import attention as attending

    made = opened(folder)
    with console_logger() as logger:
        attending.attend(
            made,
            positions,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            loader=contents.loader_of(made, device),
            redo=redo,
            logger=logger,
        )


@app.command("p-true", epilog="Example:  probemap p-true RUN")
def p_true(
    folder: flags.RunFolder,
    exact: Annotated[
        bool, typer.Option("--exact", help="Of the exact answers alone; writes RUN/p_true_exact.jsonl.")
    ] = False,
    batch_size: flags.BatchSize = 32,
    device: flags.Device = "auto",
    redo: flags.Redo = False,
) -> None:
    """The model is asked whether its own answers are true; writes RUN/p_true.jsonl, a baseline of the map."""
    from probemap.runs import integrity as contents
    from probemap.runs.steps.p_true import ask_p_true

    made = opened(folder)
    with console_logger() as logger:
        loader = contents.loader_of(made, device)
        ask_p_true(made, exact=exact, loader=loader, batch_size=batch_size, redo=redo, logger=logger)


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
    engine: flags.Engine = "local",
    workers: flags.Workers = 1,
    gpus_per_worker: flags.GpusPerWorker = 0.0,
    redo: flags.Redo = False,
) -> None:
    """One probe per (layer, position) cell, and its baselines; writes RUN/map.nc and RUN/map.csv."""
    from probemap.runs import options
    from probemap.runs.steps import map as analysis

    with console_logger() as logger:
        probing = options.Probing(folds, repeats, c, permutations, common_rows, baselines, seed, device, protocol)
        worker_pool = _ray(engine, workers, gpus_per_worker)
        analysis.make_map(opened(folder), probing, ray=worker_pool, redo=redo, logger=logger)


app.add_typer(views.app)
app.add_typer(studies.app)
app.add_typer(detectors.app)


def _ray(engine: str, workers: int, gpus_per_worker: float) -> "RayPool | None":
    from probemap.workers import RayPool

    if engine == "ray":
        return RayPool(workers, gpus_per_worker)
    if workers > 1 or gpus_per_worker:
        raise RunError("--workers and --gpus-per-worker are Ray's", "add --engine ray")
    return None


def main() -> None:
    """Run the command line; what the user can mend becomes a message and exit status 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except ProbemapError as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        sys.exit(130)
    except OSError as error:
        if error.errno not in _FULL | _FORBIDDEN:
            raise
        where = f": {error.filename}" if error.filename else ""
        hint = "free some space" if error.errno in _FULL else "check the folder and its rights"
        say(f"error: {error.strerror}{where}\nhint: {hint}; the same command goes on where it stopped")
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
