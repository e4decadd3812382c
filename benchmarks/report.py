"""Parts that all result files share: the machine, Markdown tables, spreads."""

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch

RESULTS = Path(__file__).parent / "results"


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


def table_head(*names: str) -> list[str]:
    """Return the two lines at the top of a Markdown table."""
    return [row(*names), row(*["---"] * len(names))]


def spread(values: Sequence[float] | npt.NDArray[Any], form: str = ".2f") -> str:
    """Return the median, with the lowest and highest value in brackets."""
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def simulation_table(
    simulate: Callable[[Any], dict[str, float]], rows: Sequence[tuple[dict[str, object], Sequence[Any]]]
) -> list[str]:
    """Return a table of the mean results of simulations, which run in parallel.

    Parameters
    ----------
    simulate : callable
        Function that returns the results of one simulation.
    rows : sequence of (dict, sequence)
        For each row of the table, its first cells by the name of their column, and the arguments of its simulations.
        A result of NaN is left out.
    """
    lines: list[str] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for labels, arguments in rows:
            results = list(pool.map(simulate, arguments, chunksize=4))
            if not lines:
                lines += table_head(*labels, *results[0])
            cells = []
            for name in results[0]:
                values = np.array([result[name] for result in results])
                values = values[~np.isnan(values)]
                cells.append(f"{values.mean():.4f} ({values.std() / np.sqrt(len(values)):.4f})")
            lines.append(row(*labels.values(), *cells))
            print(lines[-1], flush=True)
    return lines


def yes_no(met: bool) -> str:
    """Return whether an expectation is met, with a bold "no"."""
    return "yes" if met else "**no**"


def write(name: str, lines: Sequence[str]) -> None:
    """Write a result file in benchmarks/results."""
    path = RESULTS / f"{name}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {path}")
