"""Commands for detectors: export, push, score, ask and serve."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, open_run, say, stdout
from probemap.records import DataError, Example, ModelError

if TYPE_CHECKING:  # keeps --help fast, which must not load torch
    from probemap.detectors.head import Head
    from probemap.detectors.scorer import Scorer

app = typer.Typer()

DetectorDirectory = Annotated[Path, typer.Argument(metavar="DETECTOR", help="Detector directory.")]
# The type is a string, because Path would collapse the double slash in hf://.
DetectorSource = Annotated[
    str, typer.Argument(metavar="DETECTOR", help="Detector directory, or hf://owner/name[@revision].")
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="False-alarm rate: the fraction of correct answers that may be flagged. Default: the lowest rate for "
        "which the detector has a threshold.",
    ),
]
DetectorDtype = Annotated[str, typer.Option(help="Data type of the weights. auto: as when the detector was fitted.")]
ModelSource = Annotated[
    str | None,
    typer.Option("--model", help="Model: hub id, directory or file. Default: the model recorded in the detector."),
]


@app.command(epilog="Example:  probemap export RUN --out DETECTOR")
def export(
    folder: flags.RunDirectory,
    out: Annotated[Path, typer.Option("--out", help="Directory to create for the detector.")],
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer and position, e.g. 16:exact_answer_last; several cells are averaged. Default: the best cell."
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option(help="Fraction of the questions to hold out for thresholds and evaluation.")
    ] = 0.4,
    c: flags.C = "auto",
    false_alarms: Annotated[
        str, typer.Option(help="False-alarm rates for which thresholds are determined, separated by commas.")
    ] = "0.05,0.2",
    risks: Annotated[
        str, typer.Option(help="Shares of incorrect answers among the accepted answers, separated by commas.")
    ] = "0.1",
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Probability with which these shares hold.")] = 0.9,
    seed: flags.Seed = 0,
) -> None:
    """Export the best cell as a calibrated detector, and evaluate it on held-out questions."""
    from probemap.detectors.thresholds import Limits
    from probemap.runs.steps.export import export as export_detector

    with console_logger() as logger:
        detector = export_detector(
            open_run(folder),
            out,
            cells=[_parse_cell(text) for text in cell] if cell else "best",
            held_out=held_out,
            c=c,
            limits=Limits(
                false_alarms=_parse_shares("false-alarm rates", false_alarms),
                risks=_parse_shares("risks", risks),
                confidence=confidence,
            ),
            seed=seed,
            logger=logger,
        )
    _report("", detector.primary)
    if detector.fallback:
        _report("if a position is missing: ", detector.fallback)
    stdout.print(str(out), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap push DETECTOR owner/name")
def push(
    detector: DetectorDirectory,
    repo: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub, which is created if needed.")
    ],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
) -> None:
    """Upload a detector to the Hugging Face hub and print its URL.  The model card is uploaded unchanged."""
    from probemap.detectors.detector import Detector
    from probemap.detectors.hub import push_to_hub

    provenance = Detector.load(detector).provenance
    if provenance and provenance.name and Path(provenance.name).exists():
        say(f"config.json contains a local path to the model, {provenance.name}: other users have to pass --model")
    stdout.print(push_to_hub(detector, repo, private=not public), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap score DETECTOR answers.jsonl > scores.jsonl")
def score(
    detector: DetectorSource,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|RUN",
            help="File with the fields question and answer (optionally also id, context, choices, prompt and stopped), "
            "or a run directory.",
        ),
    ],
    model: ModelSource = None,
    false_alarms: FalseAlarms = None,
    batch_size: flags.BatchSize = 32,
    engine: flags.ModelEngine = "local",
    device: flags.Device = "auto",
    dtype: DetectorDtype = "auto",
) -> None:
    """Print the probability that each answer is correct, as one JSON line per answer."""
    from probemap.runs.steps.score import score_run
    from probemap.tasks.supplied import read_question_answers

    options = {"device": device, "dtype": dtype, "false_alarms": false_alarms, "batch_size": batch_size}
    n = n_not_primary = 0
    with _open_scorer(detector, engine, model=model, **options) as scorer:
        for answer_score in (
            score_run(open_run(source), scorer) if source.is_dir() else scorer.score_rows(read_question_answers(source))
        ):
            typer.echo(json.dumps(asdict(answer_score), ensure_ascii=True))
            n += 1
            n_not_primary += answer_score.judged_by != "primary"
    if n_not_primary:
        say(f"{n_not_primary} of {n} answers were not scored by the primary head; see the fields judged_by and why")


@app.command(epilog='Example:  probemap ask DETECTOR "In which country is the city of Vienna?"')
def ask(
    detector: DetectorSource,
    question: Annotated[str, typer.Argument(help="A question like those that the detector was fitted to.")],
    context: Annotated[str, typer.Option(help="Text that the model reads before answering.")] = "",
    model: ModelSource = None,
    false_alarms: FalseAlarms = None,
    temperature: flags.Temperature = 0.0,
    seed: flags.Seed = 0,
    engine: flags.ModelEngine = "local",
    device: flags.Device = "auto",
) -> None:
    """Ask the model a question, and print its answer in colour and the probability that the answer is correct."""
    from probemap.views.terminal import print_to
    from probemap.views.tokens import scored_answer

    example = Example("asked", question, ("",), context=context)
    options = {"device": device, "false_alarms": false_alarms, "batch_size": 1}
    with _open_scorer(detector, engine, model=model, **options) as scorer:
        (scored,) = scorer.generate([example], temperature=temperature, seed=seed)
    tokens, answer_score = scored.answer.token_texts, scored.score
    print_to(stdout, scored_answer(tokens, scored.token_p_correct, answer_score.p_correct, bool(answer_score.flagged)))
    if answer_score.exact_answer is not None:
        say(f"exact answer: {answer_score.exact_answer}")
    if answer_score.why:
        say(answer_score.why)
    if answer_score.accept is not None and answer_score.risk is not None:
        say(f"{'accepted' if answer_score.accept else 'not accepted'} at a risk of {answer_score.risk:.0%}")


@app.command(epilog="Example:  probemap serve DETECTOR --port 8080")
def serve(
    detector: DetectorSource,
    host: Annotated[str, typer.Option(help="Address to listen on; the default accepts local connections only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 selects a free port.")] = 8080,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Base URL of an OpenAI-compatible server that generates the answers. Its API key is read from "
            "OPENAI_API_KEY."
        ),
    ] = None,
    model: ModelSource = None,
    false_alarms: FalseAlarms = None,
    batch_size: flags.BatchSize = 32,
    engine: flags.ModelEngine = "local",
    device: flags.Device = "auto",
    dtype: DetectorDtype = "auto",
    queue: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of queued requests; further requests are rejected with status 429."),
    ] = 256,
    max_body: Annotated[
        int,
        typer.Option(
            min=1000, help="Maximum size of a request in bytes; larger requests are rejected with status 413."
        ),
    ] = 10**6,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens per answer.")] = 1024,
) -> None:
    """Serve a detector over HTTP.

    The endpoints are /v1/score and an OpenAI-compatible /v1/chat/completions, whose responses also contain, for each
    choice, the probability that the answer is correct.

    If the PROBEMAP_TOKEN environment variable is set, requests must send its value as a bearer token.
    """
    import os

    token = os.environ.get("PROBEMAP_TOKEN") or None
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        say(f"{host} is reachable from other machines and no token is required: set PROBEMAP_TOKEN")
    try:
        from probemap.server.app import create_app
        from probemap.server.listening import listen
        from probemap.server.middleware import Limits
        from probemap.server.telemetry import configured_observers
        from probemap.server.upstream import Upstream
    except ImportError as error:
        raise ModelError(
            f"serving requires {error.name}, which is not installed", "pip install 'probemap[serve]'"
        ) from None
    options = {"device": device, "dtype": dtype, "false_alarms": false_alarms, "batch_size": batch_size}
    with _open_scorer(detector, engine, model=model, **options) as scorer:
        app = create_app(
            scorer,
            limits=Limits(body=max_body, queue=queue, new_tokens=max_new_tokens),
            token=token,
            upstream=None if upstream is None else Upstream(upstream),
            observers=configured_observers(),
        )
        listen(app, host, port, lambda url: stdout.print(url, markup=False, soft_wrap=True))


@contextmanager
def _open_scorer(detector: str, engine: str, **options: Any) -> Iterator["Scorer"]:
    """Load a detector and its model; see `load_scorer`.  The engine is closed at the end."""
    from probemap.detectors.loading import load_scorer

    scorer = load_scorer(detector, engine=flags.ENGINES[engine], **options)
    try:
        yield scorer
    finally:
        scorer.engine.close()


def _parse_cell(text: str) -> tuple[int, str]:
    layer, colon, position = text.partition(":")
    if not colon or not layer.isdecimal():
        raise DataError(f"cannot parse the cell {text!r}", "write a layer and a position, e.g. 16:exact_answer_last")
    return int(layer), position


def _parse_shares(name: str, text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(share) for share in text.split(","))
    except ValueError:
        shares = (-1.0,)
    if not all(0 < share < 1 for share in shares):
        raise DataError(
            f"cannot parse the {name} {text!r}",
            "write numbers between 0 and 1, separated by commas, e.g. 0.05,0.2",
        )
    return shares


def _report(prefix: str, head: "Head") -> None:
    from probemap.detectors.card import acceptance_text, threshold_text

    evaluation = head.evaluation
    say(
        f"{prefix}{head.location}: AUC {evaluation.auc:.3f} [{evaluation.auc_low:.3f}, {evaluation.auc_high:.3f}] on "
        f"{evaluation.n} held-out answers, Brier score {evaluation.brier:.3f}, calibration error "
        f"{evaluation.calibration_error:.3f} ({evaluation.calibration_noise:.3f} if perfectly calibrated)"
    )
    for threshold in head.thresholds:
        say("  " + threshold_text(threshold))
    for acceptance in head.acceptances:
        say("  " + acceptance_text(acceptance))
