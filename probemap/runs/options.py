"""Options for the steps.  The command-line interface and its reference page are generated from them.

Each option is a dataclass field of the form ``name: Annotated[type, Option("help")] = default``.  Options that affect
the result of a step are recorded in ``run.json``.  Other options, such as devices and the batch sizes of deterministic
steps, are marked with ``recorded=False``.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from probemap.models.endpoint import Endpoint, parse_server_layers
from probemap.records import Kind  # noqa: TC001 - evaluated by get_type_hints


@dataclass(frozen=True)
class Option:
    """Metadata of an option."""

    help: str
    flag: str = ""
    """Name on the command line, without leading dashes.

    Default: the field name, with underscores replaced by dashes.
    """
    metavar: str = ""
    """Name in the help text if the option is a positional argument.  It is empty for all other options."""
    minimum: float | None = None
    maximum: float | None = None
    recorded: bool = True
    """Whether the option affects the result of the step and is therefore recorded in ``run.json``."""


PromptFormatOption = Literal["auto", "chat", "qa", "none"]
LocatorName = Literal["auto", "rules", "model", "none", "paper"]
Protocol = Literal["probemap", "paper"]
Quantization = Literal["4bit", "8bit"]

Seed = Annotated[int, Option("Random seed.", minimum=0, maximum=2**32 - 1)]
BatchSize = Annotated[int, Option("Number of answers per batch.", minimum=1)]
BatchTokens = Annotated[
    int | None, Option("Maximum number of tokens per batch, including padding. Default: no limit.", minimum=1)
]
GenerationBatchTokens = Annotated[
    int | None,
    Option("Maximum number of tokens per batch, including padding. Default: about a quarter of the memory.", minimum=1),
]
Positions = Annotated[
    str | None, Option("Token positions, e.g. last_q,-8..-1. Default: the fifteen positions of the paper.")
]
Folds = Annotated[int, Option("Number of cross-validation folds.", minimum=2)]
GroupBy = Annotated[
    str | None,
    Option(
        "Field of the question file, e.g. relation. Answers with the same value of it are kept in the same fold, so "
        "that probes are evaluated on other values than they were fitted to."
    ),
]
C = Annotated[str, Option("Inverse L2 penalty: a number, several numbers (0.01,1,100), or auto.")]
EndpointUrl = Annotated[
    str | None,
    Option("Base URL of an OpenAI-compatible server that generates the answers with the same model.", flag="endpoint"),
]
ServerLayers = Annotated[
    str | None,
    Option("Layers that the vLLM server extracts: its eagle_aux_hidden_state_layer_ids, e.g. 1,8,16."),
]
InFlight = Annotated[int, Option("Maximum number of concurrent requests to the server.", minimum=1, recorded=False)]


def endpoint_of(url: str | None, served: str, in_flight: int, layers: str | None = None) -> Endpoint | None:
    """Return the endpoint at `url`, or None if no URL is given."""
    if url is None:
        return None
    return Endpoint(url, served, in_flight, () if layers is None else parse_server_layers(layers))


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """Options for the capture step."""

    positions: Positions = None
    site: Annotated[
        str,
        Option(
            "Hook point in each block: resid, attn_out, heads, mlp_out, mlp_hidden, or NAME=PATH (a module in a block)."
        ),
    ] = "resid"
    layers: Annotated[str | None, Option("Layers to capture, e.g. 0,8,16 or 0..31:4. Default: all.")] = None
    batch_size: BatchSize = 32
    batch_tokens: BatchTokens = None
    store_dtype: Annotated[Literal["float32", "float16"], Option("Data type of the stored states.")] = "float32"
    dtype: Annotated[str | None, Option("Data type of the weights. Default: as during generation.")] = None
    store: Annotated[
        str | None, Option("Store the states below this URL (s3://bucket/directory, …) instead of in RUN.")
    ] = None
    vllm: str | None = None
    """Directory of the .safetensors files that vLLM wrote.  If None, the step captures the states itself."""
    server_layers: str | None = None
    """The layers in these files; see `AnswerOptions`."""
    shard_bytes: int | None = None
    """Approximate size of a shard in bytes.  Default: `activations.layout.SHARD_BYTES`."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Options for the answer step."""

    data: Annotated[
        str,
        Option(
            "Name of a task (see `probemap list`), a .jsonl, .csv or .parquet file, or a log of an evaluation tool as "
            "FORMAT:FILE.",
            metavar="DATA",
        ),
    ]
    model: Annotated[
        str,
        Option("Model: hub id, directory, .gguf file or smollm2-135m; untrained:MODEL draws its weights at random."),
    ]
    revision: Annotated[str | None, Option("Branch, tag or commit on the hub.")] = None
    select: Annotated[str | None, Option("Filter or score of a log, e.g. filter=strict-match,score=acc.")] = None
    n: Annotated[int | None, Option("Number of questions to draw. Default: all.")] = None
    seed: Seed = 0
    kind: Annotated[
        Kind | None,
        Option(
            "Kind of task, which determines how answers are graded: open, numbers, names or choices. Default: inferred "
            "from the questions."
        ),
    ] = None
    prompt: Annotated[str | None, Option("Prompt template with the fields {question}, {context} and {choices}.")] = None
    frame: Annotated[
        PromptFormatOption,
        Option(
            "Prompt format: chat (the chat template), qa (`Q: … A:`), or none (the bare prompt). auto: chat if the "
            "model has a chat template, otherwise qa."
        ),
    ] = "auto"
    template: Annotated[
        str | None, Option("Name of the chat template, if the model has several. Default: the one named default.")
    ] = None
    max_new_tokens: Annotated[
        int | None, Option("Maximum number of tokens per answer. Default: set by the task.", minimum=1)
    ] = None
    batch_size: BatchSize = 128
    batch_tokens: GenerationBatchTokens = None
    temperature: Annotated[float, Option("Sampling temperature; 0 is greedy.", minimum=0.0)] = 0.0
    dtype: Annotated[str, Option("Data type of the weights: auto, float32, bfloat16 or float16.")] = "auto"
    quantize: Annotated[Quantization | None, Option("Quantise the weights with bitsandbytes.")] = None
    answers: Annotated[
        str | None,
        Option("File of existing answers, or a run directory."),
    ] = None
    endpoint: EndpointUrl = None
    served: Annotated[
        str, Option("Name of the model on the server. Default: the only model on the server.", flag="served-name")
    ] = ""
    in_flight: InFlight = 16
    server_layers: ServerLayers = None
    inline: Annotated[CaptureOptions | None, Option("", recorded=False)] = None
    """Options for capturing states during generation (see `activations.inline`), or None to capture them later."""

    @property
    def server(self) -> Endpoint | None:
        return endpoint_of(self.endpoint, self.served, self.in_flight, self.server_layers)

    @property
    def extracted_layers(self) -> str | None:
        """The layers whose states the server extracts, as numbered in this package, or None if it extracts none."""
        if self.server_layers is None:
            return None
        return ",".join(str(k - 1) for k in parse_server_layers(self.server_layers))

    @property
    def are_generated(self) -> bool:
        """Whether this package generates the answers, instead of a server or the user."""
        return self.answers is None and self.endpoint is None


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Options for the judge step."""

    locator: Annotated[
        LocatorName,
        Option("Locator of exact answers. auto: rules, checked by the model."),
    ] = "auto"
    judge: Annotated[Literal["rules", "model"], Option("Grade the answers by rules or by a language model.")] = "rules"
    endpoint: Annotated[
        str | None,
        Option(
            "Base URL of an OpenAI-compatible server whose model grades the answers or locates the exact answers. "
            "Default: the model that generated the answers."
        ),
    ] = None
    served: Annotated[
        str, Option("Name of the model on the server. Default: the only model on the server.", flag="served-name")
    ] = ""
    in_flight: InFlight = 16
    judge_budget: Annotated[
        int | None,
        Option(
            "Maximum number of tokens that the judge at --endpoint may use in this command, which then stops and can "
            "be repeated to continue. Default: no limit.",
            minimum=1,
            recorded=False,
        ),
    ] = None
    decided: Annotated[
        str | None,
        Option(
            "File of manual labels with the fields id, correct and exact_answer, e.g. the edited "
            "RUN/disagreements.jsonl."
        ),
    ] = None

    @property
    def rules_or_model(self) -> str:
        """Name of the locator; ``rules`` if it is chosen automatically."""
        return "rules" if self.locator == "auto" else self.locator

    @property
    def server(self) -> Endpoint | None:
        return endpoint_of(self.endpoint, self.served, self.in_flight)


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Options for the attention step."""

    positions: Positions = None
    batch_size: Annotated[int, Option("Number of answers per batch.", minimum=1, recorded=False)] = 8
    batch_tokens: Annotated[
        int | None, Option("Maximum number of tokens per batch, including padding.", minimum=1, recorded=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PTrueOptions:
    """Options for the p-true steps."""

    batch_size: Annotated[int, Option("Number of answers per batch.", minimum=1, recorded=False)] = 32


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """Options for the map step."""

    folds: Folds = 5
    repeats: Annotated[int, Option("Number of repetitions with different folds; the AUCs are averaged.", minimum=1)] = 1
    c: C = "1"
    permutations: Annotated[
        int, Option("Number of label permutations for the null distribution of the maximum AUC.", minimum=0)
    ] = 0
    common_rows: Annotated[bool, Option("Evaluate all columns on the same answers: those that have all positions.")] = (
        False
    )
    baselines: Annotated[bool, Option("Evaluate the baselines and the gain over them.")] = True
    control: Annotated[
        bool, Option("Fit the control task, which shows how much of a cell is memorised exact answers.")
    ] = True
    group_by: GroupBy = None
    covariate: Annotated[
        str | None,
        Option(
            "Fields of the question file, separated by commas, e.g. popularity,relation. Each one is a baseline, and "
            "the AUCs are also computed within strata of it."
        ),
    ] = None
    seed: Seed = 0
    protocol: Annotated[
        Protocol,
        Option(
            "Protocol for computing the map. paper: follows the paper's code, for comparison; of the other options, "
            "only --seed, --baselines and --covariate apply."
        ),
    ] = "probemap"
    device: Annotated[
        str, Option("Device on which the probes are fitted: auto, cpu, cuda, cuda:1, …", recorded=False)
    ] = "auto"

    @property
    def covariates(self) -> list[str]:
        """Names of the covariates, without repetitions."""
        return list(dict.fromkeys(name.strip() for name in (self.covariate or "").split(",") if name.strip()))


@dataclass(frozen=True, kw_only=True)
class ResampleOptions:
    """Options for the resample step."""

    k: Annotated[int, Option("Number of samples per question.", minimum=2)] = 30
    temperature: Annotated[float, Option("Sampling temperature, which must be above 0.", minimum=0.01)] = 1.0
    seed: Seed = 0
    batch_size: BatchSize = 128
    batch_tokens: GenerationBatchTokens = None


@dataclass(frozen=True, kw_only=True)
class ErrorsOptions:
    """Options for the errors step."""

    folds: Folds = 5
    c: C = "1"
    seed: Seed = 0
    group_by: str | None = None
    """Field by which the folds of the map are grouped.  The step itself sets this field."""


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """Options for the choose step."""

    folds: Folds = 5
    c: C = "1"
    seed: Seed = 0
    group_by: str | None = None
    """Field by which the folds of the map are grouped.  The step itself sets this field."""
    batch_size: Annotated[int, Option("Number of answers per batch.", minimum=1, recorded=False)] = 32


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions:
    """Options for the baselines step."""

    sampled: bool = False
    """Whether to include semantic entropy.  The step itself sets this field if the run has samples."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Options for the transfer step."""

    runs: tuple[str, ...] = ()
    """Names of the runs to compare, in order.  The step itself sets this field."""
    others: Annotated[tuple[str, ...], Option("", recorded=False)] = ()
    """Directories of the runs to compare with the first one."""


@dataclass(frozen=True, kw_only=True)
class PeerOptions:
    """Options for the peer step."""

    peer: Annotated[str, Option("Directory of a run in which another model reads the answers of RUN.", metavar="PEER")]
    own: Annotated[
        str | None, Option("Directory of a run in which the other model answers the same questions itself.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options for the audit step.  The file of the draw records them."""

    n: Annotated[
        int | None,
        Option(
            "Number of answers to draw. A higher number extends an existing draw. Default: the existing draw, or 80.",
            minimum=1,
            recorded=False,
        ),
    ] = None
    seed: Annotated[
        int | None, Option("Random seed of the draw. Default: 0.", minimum=0, maximum=2**32 - 1, recorded=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Options for the plot step.  They are not recorded, and their command-line flags are declared in `cli.show`."""

    kind: Literal["map", "difference", "layers", "positions"] = "map"
    """Kind of figure: maps side by side, the difference between two maps, or curves plotted against layer or
    position."""
    value: str = "auc"
    """Name of the value to draw (a key of `metrics.VALUES`)."""
    positions: str | None = None
    """Positions to draw as columns, in the given order, e.g. ``last_q,-8..-1``.  Default: all positions."""
    size: Literal["column", "page", "slide"] | None = None
    """Figure size: one column of a paper, its full text width, or a slide.  The default depends on `kind`."""
    cmap: str | None = None
    """Name of a matplotlib colour map.  Default: Blues."""


def option_metadata(options: type[Any]) -> dict[str, tuple[Any, Option]]:
    """Return a mapping from field names to the types and metadata of the options that have metadata."""
    hints = get_type_hints(options, include_extras=True)
    return {
        name: (hint.__origin__, next(m for m in hint.__metadata__ if isinstance(m, Option)))
        for name in (f.name for f in fields(options))
        if hasattr(hint := hints[name], "__metadata__")
    }


def is_recorded(options: type[Any], name: str) -> bool:
    """Return True if an option affects the result of its step and is therefore recorded in ``run.json``."""
    metadata = option_metadata(options).get(name)
    return metadata is None or metadata[1].recorded
