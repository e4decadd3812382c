"""Parts that all result files share: the machine, Markdown tables, spreads."""

import os
import platform
from pathlib import Path

import numpy as np
import sklearn
import torch


def machine() -> str:
    """Return a line with cores, architecture and versions."""
    return (
        f"Machine: {len(os.sched_getaffinity(0))} cores, {platform.machine()} "
        f"({torch.backends.cpu.get_cpu_capability()}); torch {torch.__version__}, numpy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}."
    )


def row(*cells: object) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*names: str) -> list[str]:
    """Return the two lines at the top of a Markdown table."""
    return [row(*names), row(*["---"] * len(names))]


def spread(values: "list[float] | np.ndarray", form: str = ".2f") -> str:
    """Return the median, with the lowest and highest value in brackets."""
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def write(name: str, lines: list[str]) -> None:
    """Write a result file in benchmarks/results."""
    out = Path(__file__).parent / "results" / f"{name}.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {out}")
