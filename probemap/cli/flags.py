"""What the command line's options are called, and what their help says."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from probemap.records import DataError

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
Answers = Annotated[
    str | None,
    typer.Option(
        help="A file of answers that you already have: text, and id or question; optionally prompt, correct, stopped."
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--endpoint", help="Base URL of an OpenAI-compatible server of the same model, which answers."),
]
ServedName = Annotated[str, typer.Option(help="What that server calls the model; default: the only one it serves.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests to the server at once.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …; or spread, a model's blocks over all GPUs.")]
MaxMemory = Annotated[str | None, typer.Option(help="Of each GPU with --device spread, as 20GiB.")]
Quantize = Annotated[
    Literal["4bit", "8bit"] | None, typer.Option(help="Load the weights in fewer bits (needs bitsandbytes).")
]
Dtype = Annotated[str, typer.Option(help="Of the weights: auto, float32, bfloat16, float16.")]
Locator = Annotated[
    Literal["auto", "names", "numbers", "choices", "model", "none", "paper"],
    typer.Option(
        help="How the exact answer is found; auto follows the task. With paper the place depends on whether the "
        "answer was right: for comparison only."
    ),
]
Judge = Annotated[
    Literal["rules", "model"],
    typer.Option(help="Who says right or wrong; a model says yes or no, and the rules are compared with it."),
]
JudgeUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        help="Base URL of an OpenAI-compatible server whose model judges or locates; default: the one that answered.",
    ),
]
Decided = Annotated[
    str | None,
    typer.Option(help="A file of your own decisions, e.g. RUN/disagreements.jsonl as you edited it: id, correct, …"),
]
Positions = Annotated[str | None, typer.Option(help="e.g. last_q,exact_answer_first,-8..-1; default: all fifteen.")]
Layers = Annotated[str | None, typer.Option(help="e.g. 0,8,16 or 0..31:4, every fourth; default: all.")]
StoreDtype = Annotated[Literal["float32", "float16"], typer.Option(help="Of the stored states.")]
OnePass = Annotated[
    bool, typer.Option("--one-pass", help="Take the states while the model answers, not in a second pass.")
]
Store = Annotated[
    str | None,
    typer.Option(help="Put the states below this URL (s3://bucket/folder, …), not into RUN; needs its fsspec package."),
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="Who does the work: this process, or Ray's workers (needs ray).")
]
Workers = Annotated[int, typer.Option(min=1, help="Of Ray, each with a model of its own.")]
GpusPerWorker = Annotated[float, typer.Option(min=0, help="0: none; 0.5: two workers share one; 2: spread over two.")]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Capture share i/n alone, as 2/8, others the rest; auto: as a SLURM array's or torchrun's variables say."
    ),
]
Site = Annotated[
    str,
    typer.Option(
        help="Read in each block: resid (the residual stream after it), attn_out (what its attention returns), heads "
        "(what each attention head returns), mlp_out (what its MLP returns), mlp_hidden (the input of the MLP's last "
        "projection); or NAME=PATH, the module PATH inside a block."
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
Value = Annotated[
    str,
    typer.Option(
        help="auc, accuracy, balanced-accuracy, f1 or calibration-error of the probes; strength of the states, "
        "strength-difference of right and wrong answers; attention that is received, attention-exact; gain."
    ),
]
Kind = Annotated[
    Literal["map", "difference", "layers", "positions"],
    typer.Option(help="Maps side by side; one minus another; or curves over layers, or over positions."),
]
Columns = Annotated[str | None, typer.Option("--positions", help="Draw these, in this order: last_q,-8..-1.")]
PrintSize = Annotated[
    Literal["column", "page", "slide"] | None,
    typer.Option("--size", help="One column of a paper, its whole width, a slide; default: as the kind needs."),
]
Log = Annotated[
    Literal["mlflow", "wandb", "trackio"] | None,
    typer.Option(help="Hand numbers, pictures and the report to this, which must be installed."),
]
Redo = Annotated[bool, typer.Option("--redo", help="Make it again; the old result goes to RUN/earlier.")]


def whole_numbers(text: str) -> list[int]:
    """``1,8,16`` as numbers.

    Raises
    ------
    DataError: something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"{text!r} are no whole numbers", "write them with commas: 1,8,16") from None
