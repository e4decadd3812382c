"""Define the steps of a run: their names, outputs, options and dependencies, and the modules that implement them.

The command-line interface and the tables in the documentation are generated from these definitions.  ``run.json``
stores the options and the facts of each step.  Facts are values that a step determines during its execution.
"""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from probemap.runs.agreement import Agreement  # noqa: TC001 - evaluated when run.json is read
from probemap.runs.options import (
    AnswerOptions,
    AttentionOptions,
    AuditOptions,
    BaselinesOptions,
    CaptureOptions,
    ChooseOptions,
    ErrorsOptions,
    JudgeOptions,
    MapOptions,
    PeerOptions,
    PlotOptions,
    PTrueOptions,
    ResampleOptions,
    TransferOptions,
)

Options = TypeVar("Options")
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class NoFacts:
    """Facts for a step that records none."""


@dataclass(frozen=True)
class AnswerFacts:
    """Facts recorded by the answer step: the model that generated the answers, and the prompt format."""

    model: str = ""
    """Short model name, shown in figures."""
    revision: str = ""
    """Commit on the hub, or SHA-256 of the model's local files."""
    dtype: str = ""
    template: str = ""
    """SHA-256 of the chat template; empty if there is none."""
    date: str = ""
    """Date and time for a chat template that contains the current time; empty for other templates."""
    frame: Literal["chat", "qa", "none", "given"] = "none"
    """Prompt format.  ``given`` means that at least one answer was supplied with its own prompt."""


@dataclass(frozen=True)
class JudgeFacts:
    """Facts recorded by the judge step: how well a language model's verdicts agree with those given by the rules."""

    judge: str = ""
    """Name of the language model; empty if the rules judged the answers."""
    agreement: Agreement | None = None
    """Agreement of the language model with the rules; None if the rules judged the answers."""


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Options, Facts]):
    """Definition of a step of a run."""

    name: str
    """Name of the step in ``run.json``.  It is also the name of its command, e.g. ``probemap answer``."""
    description: str
    """One-sentence description for the help text of the command."""
    summary: str
    """Short description of the outputs, used in the tables of the documentation."""
    example: str
    """Example of a command that executes the step."""
    outputs: tuple[str, ...]
    """Files and directories that the step writes to the run directory."""
    options: type[Options]
    requires: tuple[str, ...]
    """Names of the steps whose outputs this step reads."""
    module: str
    """Module in `probemap.runs.steps` whose function ``plan(run, options, context)`` implements the step."""
    facts: type[Facts] = NoFacts  # type: ignore[assignment]
    traces: tuple[str, ...] = ()
    """Files and directories whose existence shows that the step has written at least part of its results.

    Default: `outputs`.
    """
    side_outputs: tuple[str, ...] = ()
    """Further files and directories that the step may write, such as checkpoints."""
    context: tuple[str, ...] = ()
    """Fields of `plan.Context` that can be set by command-line options."""
    follows_inputs: bool = False
    """Whether the step is repeated without ``--redo`` if its inputs have changed."""


REFUSED = "refused.jsonl"
"""Name of the file that lists the samples of a log that cannot be imported."""

ANSWER = Step[AnswerOptions, AnswerFacts](
    name="answer",
    description="Generate the model's answers to the questions.",
    example="probemap answer rows.jsonl --model smollm2-135m --out RUN",
    summary="the model's answers, with token ids, text, log-probabilities and entropies",
    outputs=("task.json", "answers.jsonl"),
    options=AnswerOptions,
    requires=(),
    module="answer",
    facts=AnswerFacts,
    traces=("answers.jsonl",),
    side_outputs=("during", REFUSED),
    context=("device", "max_memory", "engine or pool"),
)
JUDGE = Step[JudgeOptions, JudgeFacts](
    name="judge",
    description="Grade the answers and locate the exact answers.",
    example="probemap judge RUN --judge model --endpoint URL",
    summary="verdict and exact answer for each answer",
    outputs=("verdicts.jsonl",),
    options=JudgeOptions,
    requires=("answer",),
    module="judge",
    facts=JudgeFacts,
    context=("engine",),
    traces=("verdicts.jsonl", "disagreements.jsonl"),
    side_outputs=("disagreements.jsonl",),
)
CAPTURE = Step[CaptureOptions, NoFacts](
    name="capture",
    description="Capture the hidden states of every layer at the given token positions.",
    example="probemap capture RUN --positions last_q,exact_answer_last,-8..-1",
    summary="hidden states of every layer at the given token positions",
    outputs=("activations",),
    options=CaptureOptions,
    requires=("answer", "judge"),
    module="capture",
    traces=("activations/commits", "activations/where.json"),
    context=("device", "max_memory", "shard", "engine or pool"),
)
ATTENTION = Step[AttentionOptions, NoFacts](
    name="attention",
    description="Capture the attention that each token position receives in every layer.",
    example="probemap attention RUN",
    summary="attention that each token position receives in every layer",
    outputs=("attention",),
    options=AttentionOptions,
    requires=("answer", "judge"),
    module="attention",
    traces=("attention/commits",),
    context=("device",),
)
P_TRUE = Step[PTrueOptions, NoFacts](
    name="p-true",
    description="Ask the model whether its own answers are true, as a baseline for the map.",
    example="probemap p-true RUN",
    summary="p(True), the probability that the model assigns to its answer being true",
    outputs=("p_true.jsonl",),
    options=PTrueOptions,
    requires=("answer",),
    module="p_true",
    context=("device", "engine"),
)
P_TRUE_EXACT = Step[PTrueOptions, NoFacts](
    name="p-true --exact",
    description="Ask the model whether its exact answers are true, as a baseline for the map.",
    example="probemap p-true RUN --exact",
    summary="p(True) for each exact answer",
    outputs=("p_true_exact.jsonl",),
    options=PTrueOptions,
    requires=("answer", "judge"),
    module="p_true_exact",
    context=("device", "engine"),
)
MAP = Step[MapOptions, NoFacts](
    name="map",
    description="Fit one probe per (layer, position) cell and evaluate the baselines.",
    example="probemap map RUN --c auto --permutations 100 --redo",
    summary="AUC of every cell, with confidence interval, band, number of answers and gain over the baselines",
    outputs=("map.nc", "map.csv"),
    options=MapOptions,
    requires=("answer", "judge", "capture"),
    module="map",
    context=("pool",),
)
PLOT = Step[PlotOptions, NoFacts](
    name="plot",
    description="Draw maps, the difference between two maps, or curves.",
    example="probemap plot RUN --value gain --out figure.pdf",
    summary="the figure",
    outputs=("map.png", "map.svg"),
    options=PlotOptions,
    requires=("map",),
    module="plot",
)
RESAMPLE = Step[ResampleOptions, NoFacts](
    name="resample",
    description="Sample several answers to each question, for the errors, choose and baselines steps.",
    example="probemap resample RUN --k 30 --temperature 1",
    summary="several sampled answers to each question",
    outputs=("resamples.jsonl",),
    options=ResampleOptions,
    requires=("answer",),
    module="resample",
    context=("device", "engine"),
)
ERRORS = Step[ErrorsOptions, NoFacts](
    name="errors",
    description="Classify errors by type, and predict the type from the states; requires `probemap resample`.",
    example="probemap errors RUN",
    summary="error type of each question (refuses, mostly correct, mostly the same incorrect answer, two competing "
    "answers, many answers), and AUCs of the probes that predict it",
    outputs=("errors.json", "errors.csv", "kinds.jsonl"),
    options=ErrorsOptions,
    requires=("judge", "capture", "resample"),
    module="errors",
    traces=("errors.jsonl",),
    side_outputs=("errors.jsonl",),
)
CHOOSE = Step[ChooseOptions, NoFacts](
    name="choose",
    description="Select one of several sampled answers with a probe (best-of-n); requires `probemap resample`.",
    example="probemap choose RUN",
    summary="accuracy of the sample that the probe selects, compared with greedy, random and majority choice",
    outputs=("choose.json", "choose.csv", "choices.jsonl"),
    options=ChooseOptions,
    requires=("judge", "capture", "resample"),
    module="choose",
    context=("device", "engine"),
)
BASELINES = Step[BaselinesOptions, NoFacts](
    name="baselines",
    description="Rank all predictors of correctness, from log-probabilities to probes, on the same answers.",
    example="probemap baselines RUN",
    summary="ranking of log-probabilities, entropies, p(True), semantic entropy and probes on the same answers",
    outputs=("baselines.json", "baselines.csv"),
    options=BaselinesOptions,
    requires=("map", "p-true"),
    module="baselines",
)
TRANSFER = Step[TransferOptions, NoFacts](
    name="transfer",
    description="Evaluate each run's probe on the other runs' answers.",
    example="probemap transfer CITIES CAPITALS ARITHMETIC",
    summary="AUC of one run's probe on another run's answers, and its gain over the log-probabilities",
    outputs=("transfer.json", "transfer.csv"),
    options=TransferOptions,
    requires=("map",),
    module="transfer",
    traces=("transfer.jsonl",),
    side_outputs=("transfer.jsonl", "transfer.png", "transfer.svg"),
)
PEER = Step[PeerOptions, NoFacts](
    name="peer",
    description="Compare the model's states with those of another model that reads the same answers.  If both runs "
    "have the same layers, also draws the premium of each cell in RUN/peer.png and RUN/peer.svg.",
    example="probemap peer RUN PEER --own RUN-OF-THE-PEER",
    summary="AUC of the model's states, AUC of the states of another model that reads the same answers, and the "
    "premium, which is the difference",
    outputs=("peer.json", "peer.csv"),
    options=PeerOptions,
    requires=("map",),
    module="peer",
    side_outputs=("peer.png", "peer.svg"),
)
AUDIT = Step[AuditOptions, NoFacts](
    name="audit",
    description="Draw answers for a person to label, and estimate from the labels how often the verdicts are wrong.",
    example="probemap audit RUN --n 80 --ask",
    summary="share of wrong verdicts according to a person, and the AUC that correct verdicts would give",
    outputs=("audit.json", "audit.csv"),
    options=AuditOptions,
    requires=("answer", "judge"),
    module="audit",
    follows_inputs=True,
)

STEPS: dict[str, Step[Any, Any]] = {
    step.name: step
    for step in (
        ANSWER,
        JUDGE,
        CAPTURE,
        ATTENTION,
        P_TRUE,
        MAP,
        RESAMPLE,
        ERRORS,
        CHOOSE,
        P_TRUE_EXACT,
        BASELINES,
        TRANSFER,
        PEER,
        AUDIT,
    )
}
"""Mapping from step names to steps.  It does not include `PLOT`, because figures are not recorded but redrawn every
time."""

RUN_OPTIONS: dict[str, tuple[Step[Any, Any], ...]] = {
    "data": (ANSWER,),
    "model": (ANSWER,),
    "select": (ANSWER,),
    "n": (ANSWER,),
    "seed": (ANSWER, MAP),
    "dtype": (ANSWER,),
    "batch_size": (ANSWER, CAPTURE, P_TRUE),
    "answers": (ANSWER,),
    "endpoint": (ANSWER,),
    "server_layers": (ANSWER,),
    "locator": (JUDGE,),
    "positions": (CAPTURE,),
    "site": (CAPTURE,),
    "c": (MAP,),
}
"""Mapping from the options of ``probemap run`` to the steps that they apply to.

All other options can be passed only to the commands of the individual steps.
"""
