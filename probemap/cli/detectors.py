"""The verbs of detectors: made from a run, and asked about new answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, open_run, say, stdout
from probemap.records import DataError, Example, ModelError, TextAnswer

if TYPE_CHECKING:  # --help answers in a blink
    from probemap.detectors.head import Branch
    from probemap.detectors.scorer import Score, Scorer

app = typer.Typer()

DetectorFolder = Annotated[Path, typer.Argument(metavar="DETECTOR", help="A detector's folder.")]
# As text: a path would make one slash of two.
DetectorPlace = Annotated[
    str, typer.Argument(metavar="DETECTOR", help="A detector's folder, or hf://owner/name[@revision].")
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of right answers that may be flagged; default: the detector's lowest."),
]
DetectorDtype = Annotated[str, typer.Option(help="Of the weights; auto: as when the detector was made.")]
ModelOf = Annotated[
    str | None,
    typer.Option("--model", help="Where the detector's model is here; default: where it was when it was made."),
]


@app.command(epilog="Example:  probemap export RUN --out DETECTOR")
def export(
    folder: flags.RunDirectory,
    out: Annotated[Path, typer.Option("--out", help="The detector's folder.")],
    cell: Annotated[
        list[str] | None,
        typer.Option(help="16:exact_answer_last, layer and position; several are averaged; default: the best."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the questions that only judge.")] = 0.2,
    c: flags.C = "auto",
    false_alarms: Annotated[str, typer.Option(help="Shares of right answers that may be flagged.")] = "0.05,0.2",
    seed: flags.Seed = 0,
) -> None:
    """The best cell as a detector: fitted and calibrated on some questions, judged on the others."""
    from probemap.runs.steps.export import export as make

    cells = [_cell(one) for one in cell] if cell else "best"
    with console_logger() as logger:
        made = make(
            open_run(folder),
            out,
            cells=cells,  # type: ignore[arg-type]
            held_out=held_out,
            c=c,
            false_alarms=_shares(false_alarms),
            seed=seed,
            logger=logger,
        )
    _tell("", made.main)
    if made.fallback:
        _tell("where a position is missing: ", made.fallback)
    stdout.print(str(out), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap push DETECTOR owner/name")
def push(
    detector: DetectorFolder,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A repository of the hub, made if need be.")],
    public: Annotated[bool, typer.Option("--public", help="Everybody can read it.")] = False,
) -> None:
    """The detector onto the Hugging Face hub, its card as it stands; prints the address."""
    from probemap.detectors import hub
    from probemap.detectors.detector import Detector

    provenance = Detector.load(detector).provenance
    name = provenance.name if provenance else ""
    if name and Path(name).exists():
        say(f"its config.json says where the model lies here, {name}: others name their own place with --model")
    stdout.print(hub.push(detector, repo, private=not public), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap score DETECTOR answers.jsonl > scores.jsonl")
def score(
    detector: DetectorPlace,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|RUN",
            help="A file with question and answer (optionally id, context, choices, prompt, stopped), or a run folder.",
        ),
    ],
    model: ModelOf = None,
    false_alarms: FalseAlarms = None,
    batch_size: flags.BatchSize = 32,
    device: flags.Device = "auto",
    dtype: DetectorDtype = "auto",
) -> None:
    """How likely is each answer right?  One JSON line per answer, as soon as it is scored."""
    scorer = _scorer(detector, model, false_alarms, batch_size, device, dtype)
    without = done = 0
    for part in _scored(scorer, source):
        for one in part:
            typer.echo(json.dumps(asdict(one), ensure_ascii=True))
        done += len(part)
        without += sum(one.judged_by != "main" for one in part)
    if without:
        say(f"{without} of {done} answers were not judged by the detector's own cells: see judged_by and why")


@app.command(epilog='Example:  probemap ask DETECTOR "In which country is the city of Vienna?"')
def ask(
    detector: DetectorPlace,
    question: Annotated[str, typer.Argument(help="As the detector's own questions.")],
    context: Annotated[str, typer.Option(help="Text to read before answering.")] = "",
    model: ModelOf = None,
    false_alarms: FalseAlarms = None,
    temperature: flags.Temperature = 0.0,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
) -> None:
    """The model answers, and how likely it is right: tokens in colour, from doubt to trust."""
    from probemap.views import terminal

    scorer = _scorer(detector, model, false_alarms, 1, device, "auto")
    (said,) = scorer.generate([Example("asked", question, ("",), context=context)], temperature=temperature, seed=seed)
    tokens, score = said.answer.token_texts, said.score
    terminal.print_to(stdout, terminal.scored(tokens, said.tokens, score.p_correct, bool(score.flagged)))
    if score.exact_answer is not None:
        say(f"exact answer: {score.exact_answer}")
    if score.why:
        say(score.why)


@app.command(epilog="Example:  probemap serve DETECTOR --port 8080")
def serve(
    detector: DetectorPlace,
    host: Annotated[str, typer.Option(help="Where to listen; the default is for this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    upstream: Annotated[
        str | None,
        typer.Option(help="Base URL of an OpenAI-compatible server that answers instead; OPENAI_API_KEY is its key."),
    ] = None,
    model: ModelOf = None,
    false_alarms: FalseAlarms = None,
    batch_size: flags.BatchSize = 32,
    device: flags.Device = "auto",
    dtype: DetectorDtype = "auto",
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are refused (429).")] = 256,
    max_body: Annotated[int, typer.Option(min=1000, help="Bytes of a request; larger ones are refused (413).")] = 10**6,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one answer.")] = 1024,
) -> None:
    """The detector over HTTP: /v1/score, and OpenAI's /v1/chat/completions with a probability in every choice.

    PROBEMAP_TOKEN in the environment, if set, is the bearer token that requests must bring.
    """
    import os

    token = os.environ.get("PROBEMAP_TOKEN") or None
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        say(f"{host} can be reached from elsewhere and no token is asked for: set PROBEMAP_TOKEN")
    try:
        from probemap.server.app import create_app
        from probemap.server.listening import listen
        from probemap.server.middleware import Limits
        from probemap.server.telemetry import configured_observers
        from probemap.server.upstream import Upstream
    except ImportError as error:
        raise ModelError(
            f"serving needs {error.name}, which is not installed", "pip install 'probemap[serve]'"
        ) from None
    app = create_app(
        _scorer(detector, model, false_alarms, batch_size, device, dtype),
        limits=Limits(body=max_body, queue=queue, new_tokens=max_new_tokens),
        token=token,
        upstream=None if upstream is None else Upstream(upstream),
        observers=configured_observers(),
    )
    listen(app, host, port, lambda url: stdout.print(url, markup=False, soft_wrap=True))


def _scorer(
    detector: str, model: str | None, false_alarms: float | None, batch_size: int, device: str, dtype: str
) -> "Scorer":
    from probemap.detectors.loading import load_scorer

    return load_scorer(
        detector, model=model, device=device, dtype=dtype, false_alarms=false_alarms, batch_size=batch_size
    )


def _scored(scorer: "Scorer", source: Path) -> "Iterator[list[Score]]":
    from probemap.detectors.scorer import AT_ONCE, in_parts

    if source.is_dir():
        run = open_run(source)
        task, answers = run.task, run.answers
        for start in range(0, len(answers), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            yield scorer.score(task.examples[rows], answers[rows])
        return
    for part in in_parts(_rows(source)):
        yield scorer.score([example for example, _ in part], scorer.answers(part))


def _rows(path: Path) -> Iterator[tuple[Example, TextAnswer]]:
    from probemap.tasks.files import read_rows

    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: expected an object, got {type(row).__name__}", "one object per row")
        yield question_and_answer(row, where, str(number))


def question_and_answer(row: Mapping[str, Any], where: str, id_: str) -> tuple[Example, TextAnswer]:
    """What is scored, from a row with ``question`` and ``answer``.

    Raises
    ------
    DataError: one of them is missing or no text.
    """
    texts = {}
    for name, needed in (("question", True), ("answer", True), ("context", False), ("prompt", False)):
        value = row.get(name)
        if not isinstance(value, str) and (needed or value is not None):
            found = f"is {type(value).__name__}" if name in row else f"is missing (fields: {', '.join(map(str, row))})"
            raise DataError(f"{where}: {name} {found}", "each row needs texts 'question' and 'answer'")
        texts[name] = value or ""
    choices = row.get("choices") or ()
    if not isinstance(choices, list | tuple) or not all(isinstance(one, str) for one in choices):
        raise DataError(f"{where}: choices are {choices!r:.60}", "give a list of texts")
    if not isinstance(row.get("stopped", True), bool):
        raise DataError(f"{where}: stopped is {row['stopped']!r:.60}", "true, or false for an answer that was cut off")
    name = str(row["id"]) if row.get("id") not in (None, "") else id_
    example = Example(name, texts["question"], ("",), tuple(choices), texts["context"])
    return example, TextAnswer(name, texts["answer"], row.get("stopped", True), texts["prompt"] or None)


def _cell(text: str) -> tuple[int, str]:
    layer, colon, position = text.partition(":")
    if not colon or not layer.isdecimal():
        raise DataError(f"{text!r} is no cell", "layer and position, as 16:exact_answer_last")
    return int(layer), position


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 < share < 1 for share in shares):
        raise DataError(f"{text!r} are no shares", "numbers between 0 and 1 with commas: 0.05,0.2")
    return shares


def _tell(what: str, branch: "Branch") -> None:
    quality = branch.quality
    say(
        f"{what}{branch.where}: AUC {quality.auc:.3f} [{quality.auc_low:.3f}, {quality.auc_high:.3f}] on "
        f"{quality.n} answers that took no part, Brier score {quality.brier:.3f}, calibration error "
        f"{quality.calibration_error:.3f} ({quality.calibration_noise:.3f} if all were true)"
    )
    for one in branch.thresholds:
        say(
            f"  flagging below {one.p_correct:.2f}: {one.flagged_right:.0%} of right answers "
            f"({one.false_alarms:.0%} asked for), {one.flagged_wrong:.0%} of wrong ones; "
            f"{one.precision:.0%} of the flagged are wrong"
        )
