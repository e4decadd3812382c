"""Options of each step: name, type, default, help.  The command line and its reference are generated from them.

A field is written ``name: Annotated[type, Option("help")] = default``.  Options that affect the result of a step are
recorded in ``run.json``; the others (batch sizes of deterministic steps, devices) are marked ``recorded=False``.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from probemap.models.loading import Endpoint


@dataclass(frozen=True)
class Option:
    """Metadata of one option."""

    help: str
    flag: str = ""
    """Name on the command line without dashes.  If empty, it is the field name with underscores replaced by dashes."""
    metavar: str = ""
    """Name of the positional argument; empty if this is an option."""
    minimum: float | None = None
    maximum: float | None = None
    recorded: bool = True
    """False if the option does not change the result of the step."""


PromptFormatOption = Literal["auto", "chat", "qa", "none"]
LocatorName = Literal["auto", "names", "numbers", "choices", "model", "none", "paper"]
Protocol = Literal["probemap", "paper"]
Quantization = Literal["4bit", "8bit"]

Seed = Annotated[int, Option("Random seed.", minimum=0, maximum=2**32 - 1)]
BatchSize = Annotated[int, Option("Answers per batch.", minimum=1)]
BatchTokens = Annotated[int | None, Option("Tokens per batch with padding. Default: no limit.", minimum=1)]
Positions = Annotated[str | None, Option("Token positions, e.g. last_q,-8..-1. Default: the paper's fifteen.")]
Folds = Annotated[int, Option("Cross-validation folds.", minimum=2)]
C = Annotated[str, Option("Inverse L2 penalty: a number, several (0.01,1,100), or auto.")]
EndpointUrl = Annotated[
    str | None, Option("Base URL of an OpenAI-compatible server that runs the same model and answers.", flag="endpoint")
]
ServedName = Annotated[str, Option("Name of the model on the server. Default: the only one it serves.")]
InFlight = Annotated[int, Option("Concurrent requests to the server.", minimum=1, recorded=False)]


def endpoint_of(url: str | None, served: str, in_flight: int) -> Endpoint | None:
    """Return the server at `url`, or None without a URL."""
    return None if url is None else Endpoint(url, served, in_flight)


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """Options of the capture step."""

    positions: Positions = None
    site: Annotated[
        str,
        Option(
            "Hook point in each block: resid (residual stream), attn_out, heads, mlp_out, mlp_hidden, or NAME=PATH "
            "for a module inside a block."
        ),
    ] = "resid"
    layers: Annotated[str | None, Option("Layers, e.g. 0,8,16 or 0..31:4. Default: all.")] = None
    batch_size: BatchSize = 32
    batch_tokens: BatchTokens = None
    store_dtype: Annotated[Literal["float32", "float16"], Option("Data type of the stored states.")] = "float32"
    dtype: Annotated[str | None, Option("Data type of the weights. Default: as during generation.")] = None
    store: Annotated[
        str | None, Option("Store the states below this URL (s3://bucket/directory, …) instead of in RUN.")
    ] = None
    vllm: str | None = None
    """Directory of the safetensors files that vLLM extracted.  If None, the states are captured by this step."""
    vllm_layers: tuple[int, ...] | None = None
    """vLLM's ``eagle_aux_hidden_state_layer_ids``, in the same order."""
    shard_bytes: int | None = None
    """Approximate size of a shard in bytes.  If None, `activations.layout.SHARD_BYTES` is used."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Options of the answer step."""

    data: Annotated[str, Option("Task by name (see `probemap list`), or .jsonl, .csv, .parquet file.", metavar="DATA")]
    model: Annotated[str, Option("Hub id, directory, .gguf file, or smollm2-135m.")]
    revision: Annotated[str | None, Option("Branch, tag or commit on the hub.")] = None
    n: Annotated[int | None, Option("Draw this many questions. Default: all.")] = None
    seed: Seed = 0
    prompt: Annotated[str | None, Option("Prompt template with {question}, {context}, {choices}.")] = None
    frame: Annotated[
        PromptFormatOption,
        Option("Prompt format: the chat template, `Q: … A:`, or the bare prompt. auto: chat if possible."),
    ] = "auto"
    max_new_tokens: Annotated[int | None, Option("Token limit of an answer. Default: set by the task.", minimum=1)] = (
        None
    )
    batch_size: BatchSize = 32
    batch_tokens: BatchTokens = None
    temperature: Annotated[float, Option("Sampling temperature; 0 is greedy.", minimum=0.0)] = 0.0
    dtype: Annotated[str, Option("Weights: auto, float32, bfloat16, float16.")] = "auto"
    quantize: Annotated[Quantization | None, Option("Quantise the weights with bitsandbytes.")] = None
    answers: Annotated[
        str | None,
        Option("File of existing answers: text, and id or question; optionally prompt, correct, stopped."),
    ] = None
    endpoint: EndpointUrl = None
    served: Annotated[
        str, Option("Name of the model on the server. Default: the only one it serves.", flag="served-name")
    ] = ""
    in_flight: InFlight = 16
    inline: Annotated[CaptureOptions | None, Option("", recorded=False)] = None
    """States to record during generation (see `activations.inline`), or None to record none."""

    @property
    def server(self) -> Endpoint | None:
        return endpoint_of(self.endpoint, self.served, self.in_flight)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Options of the judge step."""

    locator: Annotated[
        LocatorName,
        Option("Locator of the exact answer. auto: set by the task. paper: uses the verdict, for comparison only."),
    ] = "auto"
    judge: Annotated[Literal["rules", "model"], Option("Grade by rules, or by a language model.")] = "rules"
    endpoint: Annotated[
        str | None,
        Option(
            "Base URL of an OpenAI-compatible server whose model judges or locates. Default: the model that answered."
        ),
    ] = None
    served: Annotated[
        str, Option("Name of the model on the server. Default: the only one it serves.", flag="served-name")
    ] = ""
    in_flight: InFlight = 16
    decided: Annotated[
        str | None, Option("File of manual labels, e.g. the edited RUN/disagreements.jsonl: id, correct, exact_answer.")
    ] = None

    @property
    def server(self) -> Endpoint | None:
        return endpoint_of(self.endpoint, self.served, self.in_flight)


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Options of the attention step."""

    positions: Positions = None
    batch_size: Annotated[int, Option("Answers per batch.", minimum=1, recorded=False)] = 8
    batch_tokens: Annotated[int | None, Option("Tokens per batch with padding.", minimum=1, recorded=False)] = None


@dataclass(frozen=True, kw_only=True)
class PTrueOptions:
    """Options of the p-true steps."""

    batch_size: Annotated[int, Option("Answers per batch.", minimum=1, recorded=False)] = 32


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """Options of the map step."""

    folds: Folds = 5
    repeats: Annotated[int, Option("Repetitions with different folds; the AUCs are averaged.", minimum=1)] = 1
    c: C = "1"
    permutations: Annotated[int, Option("Label permutations for the null distribution of the maximum.", minimum=0)] = 0
    common_rows: Annotated[bool, Option("Evaluate every column on the answers that have all positions.")] = False
    baselines: Annotated[bool, Option("Evaluate the baselines and the gain over them.")] = True
    seed: Seed = 0
    protocol: Annotated[
        Protocol, Option("paper: the protocol of the paper's code, for comparison; only --seed applies to it.")
    ] = "probemap"
    device: Annotated[str, Option("Device of the fit: auto, cpu, cuda, cuda:1, …", recorded=False)] = "auto"


@dataclass(frozen=True, kw_only=True)
class ResampleOptions:
    """Options of the resample step."""

    k: Annotated[int, Option("Samples per question.", minimum=2)] = 30
    temperature: Annotated[float, Option("Sampling temperature, above 0.", minimum=0.01)] = 1.0
    seed: Seed = 0
    batch_size: BatchSize = 32
    batch_tokens: BatchTokens = None


@dataclass(frozen=True, kw_only=True)
class ErrorsOptions:
    """Options of the errors step."""

    folds: Folds = 5
    c: C = "1"
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """Options of the choose step."""

    folds: Folds = 5
    c: C = "1"
    seed: Seed = 0
    batch_size: Annotated[int, Option("Answers per batch.", minimum=1, recorded=False)] = 32


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions:
    """Options of the baselines step."""

    sampled: bool = False
    """Whether semantic entropy is included; set by the step if there are samples."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Options of the transfer step."""

    runs: tuple[str, ...] = ()
    """Names of the compared runs in order; set by the step."""
    others: Annotated[tuple[str, ...], Option("", recorded=False)] = ()
    """Directories of the runs to compare with."""


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Options of the plot step.  The step is not recorded, and `cli.show` declares its options on the command line."""

    kind: Literal["map", "difference", "layers", "positions"] = "map"
    """Maps side by side, the difference of two maps, or curves over layers or positions."""
    value: str = "auc"
    """A name of `metrics.VALUES`."""
    positions: str | None = None
    """Columns to draw, in this order, e.g. ``last_q,-8..-1``.  None: all."""
    size: Literal["column", "page", "slide"] | None = None
    """One column of a paper, its full width, or a slide.  None: depends on the kind."""
    cmap: str | None = None
    """A matplotlib colour map.  None: Blues."""


def option_metadata(options: type[Any]) -> dict[str, tuple[Any, Option]]:
    """Return the type and the metadata of each option that has metadata, by field name."""
    hints = get_type_hints(options, include_extras=True)
    return {
        name: (hint.__origin__, next(m for m in hint.__metadata__ if isinstance(m, Option)))
        for name in (f.name for f in fields(options))
        if hasattr(hint := hints[name], "__metadata__")
    }


def is_recorded(options: type[Any], name: str) -> bool:
    """Return True if the option affects the result of its step and is recorded in ``run.json``."""
    metadata = option_metadata(options).get(name)
    return metadata is None or metadata[1].recorded
