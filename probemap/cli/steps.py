"""Commands that execute the steps of a run.  They are generated from `probemap.runs.definitions`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, open_run, print_table, print_verdicts, say, stdout
from probemap.records import RunError
from probemap.runs.definitions import (
    ANSWER,
    ATTENTION,
    AUDIT,
    BASELINES,
    CAPTURE,
    CHOOSE,
    ERRORS,
    JUDGE,
    MAP,
    P_TRUE,
    P_TRUE_EXACT,
    PEER,
    RESAMPLE,
    TRANSFER,
    Step,
)
from probemap.runs.options import AnswerOptions, option_metadata

if TYPE_CHECKING:  # keeps --help fast
    from probemap.logger import Logger
    from probemap.records import AuditRow
    from probemap.runs.plan import Context
    from probemap.runs.run import Run

app = typer.Typer()

Out = Annotated[Path, typer.Option("--out", help="Run directory; created if needed.")]
Exact = Annotated[
    bool, typer.Option("--exact", help="Ask about the exact answers only, and write RUN/p_true_exact.jsonl.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="List the verdicts by reason and rule, with up to 20 examples of each.")
]
Ask = Annotated[bool, typer.Option("--ask", help="Show one answer after another in the terminal and ask for labels.")]
Page = Annotated[bool, typer.Option("--page", help="Write RUN/audit.html, a page on which the labels can be entered.")]
_TABLES = (ERRORS, CHOOSE, BASELINES, PEER)
"""Steps whose result tables are printed."""


def run_command(step: Step[Any, Any]) -> Callable[..., None]:
    """Create the command that executes a step in a run directory."""

    def command(**arguments: Any) -> None:
        from probemap.runs.execution import run_step
        from probemap.runs.run import Run

        path = arguments.pop("out", None) or arguments.pop("directory")
        run = Run(path) if step is ANSWER else open_run(path)
        selected = P_TRUE_EXACT if step is P_TRUE and arguments.pop("exact") else step
        explain = step is JUDGE and arguments.pop("explain")
        redo, defaults = arguments.pop("redo"), arguments.pop("defaults")
        with console_logger() as logger:
            context = context_from(arguments, logger, step.context)
            try:
                run_step(selected, run, context, redo=redo, defaults=defaults, **given(arguments))
            finally:
                context.release()
        if step in _TABLES:
            print_table(run.read_table(step.name))
        if explain:
            print_verdicts(run)

    parameters = flags.option_parameters(step.options)
    if step is ANSWER:
        parameters.insert(2, flags.keyword("out", Out))
    else:
        parameters.insert(0, flags.keyword("directory", flags.RunDirectory))
    if step is P_TRUE:
        parameters.insert(1, flags.keyword("exact", Exact, False))
    if step is JUDGE:
        parameters.append(flags.keyword("explain", Explain, False))
    parameters += context_parameters(step.context)
    parameters.append(flags.keyword("redo", flags.Redo, False))
    parameters.append(flags.keyword("defaults", flags.Defaults, False))
    return with_signature(command, parameters, f"{step.description}\n\n{writes(step)}")


def writes(step: Step[Any, Any]) -> str:
    """Return a sentence that lists the outputs of a step."""
    names = [f"RUN/{name}" for name in step.outputs]
    return f"Writes {' and '.join([', '.join(names[:-1]), names[-1]] if names[:-1] else names)}."


def with_signature(command: Callable[..., None], parameters: list[inspect.Parameter], text: str) -> Callable[..., None]:
    """Set the signature and the help text that typer reads from a command, and return the command."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = text
    return command


def context_parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    """Create command parameters that set the given fields of the execution context."""
    return [
        flags.keyword(option, kind, default)
        for name in names
        for option, (kind, default) in flags.CONTEXT[name].items()
    ]


def context_from(arguments: dict[str, Any], logger: "Logger", names: tuple[str, ...] = ()) -> "Context":
    """Create the execution context, and set its fields from the corresponding options in `arguments`.

    These options are removed from `arguments`.

    Raises
    ------
    RunError
        If Ray options are given without ``--engine ray``.
    """
    from probemap.runs.plan import Context
    from probemap.workers import RayPool, parse_shard

    options = {option: default for name in names for option, (_, default) in flags.CONTEXT[name].items()}
    values = {option: arguments.pop(option, default) for option, default in options.items()}
    engine, workers = values.get("engine", "local"), values.get("workers", 1)
    gpus = values.get("gpus_per_worker", 0.0)
    if engine != "ray" and (workers > 1 or gpus):
        raise RunError("--workers and --gpus-per-worker apply to Ray only", "add --engine ray")
    shard = values.get("shard")
    return Context(
        logger=logger,
        device=values.get("device", "auto"),
        max_memory=values.get("max_memory"),
        engine=flags.ENGINES[engine],
        pool=RayPool(workers, gpus) if engine == "ray" else None,
        shard=parse_shard(shard) if shard else None,
    )


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in arguments.items() if value is not None}


for _step in (ANSWER, JUDGE, CAPTURE, ATTENTION, P_TRUE, MAP, RESAMPLE, ERRORS, CHOOSE, BASELINES, PEER):
    app.command(_step.name, epilog=f"Example:  {_step.example}")(run_command(_step))


@app.command("import-states", epilog="Example:  probemap import-states RUN EXTRACTED --server-layers 1,8,16,24")
def import_states(
    directory: flags.RunDirectory,
    extracted: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Directory of the .safetensors files that vLLM wrote.")
    ],
    server_layers: Annotated[
        str,
        typer.Option(help=option_metadata(AnswerOptions)["server_layers"][1].help),
    ],
    positions: Annotated[str | None, typer.Option(help="Token positions, as for `probemap capture`.")] = None,
    redo: flags.Redo = False,
) -> None:
    """Import hidden states that vLLM extracted during generation, instead of capturing them.

    Not needed for answers that were generated with --endpoint and --server-layers.  Writes RUN/activations.
    """
    from probemap.runs.execution import run_step

    options = given({"positions": positions})
    with console_logger() as logger:
        run_step(
            CAPTURE,
            open_run(directory),
            context_from({}, logger),
            redo=redo,
            vllm=str(extracted),
            server_layers=server_layers,
            **options,
        )


@app.command(TRANSFER.name, epilog=f"Example:  {TRANSFER.example}")
def transfer(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, all for the same model. The result is written to the first one."
        ),
    ],
    redo: flags.Redo = False,
) -> None:
    """Evaluate each run's probe on the other runs' answers.

    Writes transfer.json, transfer.csv, transfer.png and transfer.svg to the first run directory.
    """
    from probemap.runs.execution import run_step
    from probemap.runs.steps.transfer import draw, figure_paths

    runs = [open_run(directory) for directory in directories]
    with console_logger() as logger:
        others = tuple(str(run.path) for run in runs[1:])
        run_step(TRANSFER, runs[0], context_from({}, logger), redo=redo, others=others)
        if not all(path.exists() for path in figure_paths(runs[0])):
            draw(runs[0], runs[0].read_table("transfer"))
    print_table(runs[0].read_table("transfer"))


def _audit(directory: Path, ask: bool, page: bool, **arguments: Any) -> None:
    from probemap.runs.audit_files import draw_answers, write_label
    from probemap.runs.execution import run_step
    from probemap.runs.options import AuditOptions

    run, options = open_run(directory), given(arguments)
    if page or ask:
        with run.locked():
            rows = draw_answers(run, run.graded, AuditOptions(**options), say)[1]
        if page:
            _write_audit_page(run, rows)
        if ask:
            from probemap.cli.questionnaire import ask_labels

            def save(labelled: "AuditRow") -> None:
                with run.locked():
                    write_label(run, labelled)

            ask_labels(rows, save, stdout)
    with console_logger() as logger:
        run_step(AUDIT, run, context_from({}, logger), **options)
    if run.is_done(AUDIT):
        print_table(run.read_table(AUDIT.name))


def _write_audit_page(run: "Run", rows: "Sequence[AuditRow]") -> None:
    from probemap.views.audit_page import render_audit

    with run.locked():
        run.write("audit.html", render_audit(rows, run.task.name))
    stdout.print(str(run.path / "audit.html"), markup=False, soft_wrap=True)


app.command(AUDIT.name, epilog=f"Example:  {AUDIT.example}")(
    with_signature(
        lambda **arguments: _audit(**arguments),
        [
            flags.keyword("directory", flags.RunDirectory),
            *flags.option_parameters(AUDIT.options),
            flags.keyword("ask", Ask, False),
            flags.keyword("page", Page, False),
        ],
        f"{AUDIT.description}\n\nWrites the drawn answers to RUN/audit.jsonl.  Enter the labels there in the field "
        "`correct`, or use --ask or --page.  Verdicts are not shown, so that they do not influence the labels.  Labels "
        "are never overwritten.  If there are labels, prints the result and writes RUN/audit.json and RUN/audit.csv.",
    )
)
