"""What every result file says about where it was made."""

import os
import platform
from pathlib import Path

import numpy as np
import sklearn
import torch


def machine() -> str:
    """One line: cores, architecture, versions."""
    return (
        f"Machine: {len(os.sched_getaffinity(0))} cores, {platform.machine()} "
        f"({torch.backends.cpu.get_cpu_capability()}); torch {torch.__version__}, numpy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}."
    )


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*names: str) -> list[str]:
    """The two lines that a Markdown table begins with."""
    return [row(*names), row(*["---"] * len(names))]


def spread(values: "list[float] | np.ndarray", form: str = ".2f") -> str:
    """Median, and lowest to highest in brackets."""
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def write(name: str, lines: list[str]) -> None:
    """Into benchmarks/results."""
    out = Path(__file__).parent / "results" / f"{name}.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {out}")
