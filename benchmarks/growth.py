"""Measure how the time to fit probes grows, beside scikit-learn: ``python benchmarks/growth.py [--repeats 5]``.

Writes ``benchmarks/results/growth.md`` and ``growth.png``.  The problems, and the way in which scikit-learn is run, are
those of ``speed.py``.  scikit-learn has its default options, with which it stops before convergence.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from report import RESULTS, machine, row, spread, table_head, write
from speed import DEFAULT, measure_times, settings
from speed_problem import FOLDS, Floats, synthetic_states

SIZES, WIDTHS, DECAYS, N_CELLS = (100, 600, 1000, 5000), (576, 2048), (0.0, 1.0, 2.0), 12
LARGE = 5000
"""With this number of answers or more, only one C value and one label set are fitted."""

SWEEPS = {
    "answers": (100, 300, 600, 1000, 2000, 5000),
    "features": (64, 256, 576, 2048, 4096),
    "cells": (2, 8, 32, 128),
}
"""Values of one size in the figure; the other sizes have the values of `TYPICAL`."""
TYPICAL = {"answers": 600, "features": 576, "cells": N_CELLS}


@dataclass(frozen=True, kw_only=True)
class Times:
    """Times of one setting, as an array of shape (repetitions, 2): probemap, scikit-learn."""

    name: str
    seconds: Floats

    @property
    def ratios(self) -> Floats:
        return self.seconds[:, 1] / self.seconds[:, 0]


def measure(
    *, answers: int, features: int, cells: int, decay: float = 1.0, n_settings: int = 1, n_repeats: int
) -> Iterator[Times]:
    """Yield the times of the first settings of ``speed.py``: one C value, several C values, several label sets."""
    with tempfile.TemporaryDirectory() as folder:
        states, correct = synthetic_states(
            Path(folder) / "states.npy", n=answers, d=features, decay=decay, n_layers=1, n_positions=cells
        )
        for setting in islice(settings(states, correct), n_settings):
            yield Times(name=setting.name, seconds=measure_times(setting, [DEFAULT], n_repeats))


def draw(sweeps: dict[str, list[tuple[int, Times]]]) -> None:
    """Draw the times of each sweep on logarithmic axes."""
    figure, axes = plt.subplots(1, len(sweeps), figsize=(10, 3.2), layout="constrained", sharey=True)
    for axis, (size, measured) in zip(axes, sweeps.items(), strict=True):
        values = [value for value, _ in measured]
        for i, name in enumerate(("probemap", "scikit-learn")):
            seconds = np.array([times.seconds[:, i] for _, times in measured])
            axis.plot(values, np.median(seconds, axis=1), marker="o", label=name)
            axis.fill_between(values, seconds.min(axis=1), seconds.max(axis=1), alpha=0.25)
        fixed_sizes = ", ".join(f"{value} {name}" for name, value in TYPICAL.items() if name != size)
        axis.set(xscale="log", yscale="log", xlabel=size, title=fixed_sizes)
        axis.set_xticks(values, map(str, values))
        axis.minorticks_off()
    axes[0].set_ylabel("seconds")
    axes[0].legend()
    figure.savefig(RESULTS / "growth.png", dpi=130)


def ratio_summary(by_work: dict[str, list[Floats]]) -> Iterator[str]:
    """Yield the ratios of each kind of work over all of its settings."""
    for work, ratios in by_work.items():
        medians: Sequence[float] = [float(np.median(values)) for values in ratios]
        yield row(work, len(medians), f"{np.median(medians):.1f}", f"{min(medians):.1f}", f"{max(medians):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    n_repeats = parser.parse_args().repeats
    lines, by_work = [], dict[str, list[Floats]]()
    for n, d, decay in product(SIZES, WIDTHS, DECAYS):
        n_settings = 1 if n >= LARGE else 3
        for times in measure(
            answers=n, features=d, cells=N_CELLS, decay=decay, n_settings=n_settings, n_repeats=n_repeats
        ):
            by_work.setdefault(times.name, []).append(times.ratios)
            columns = (spread(times.seconds[:, i]) for i in range(2))
            lines.append(row(n, d, decay, times.name, *columns, spread(times.ratios, ".1f")))
            print(lines[-1], flush=True)
    sweeps = {
        size: [(value, next(measure(**{**TYPICAL, size: value}, n_repeats=n_repeats))) for value in values]
        for size, values in SWEEPS.items()
    }
    draw(sweeps)
    write(
        "growth",
        [
            "# Growth of the time to fit probes",
            "",
            f"Seconds of `fit_map(nested=False)` with C = 1, and of scikit-learn; median (minimum to maximum) of "
            f"{n_repeats} alternating repetitions; ratios are taken within a repetition.  With several C values, the "
            "probes alone.  scikit-learn: StandardScaler once per fold, LogisticRegression with default options, which "
            "is less accurate than probemap (see `speed.md`), on float32, one "
            f"task per cell, warm joblib workers, one BLAS thread each.  {FOLDS} folds.  The states have a spectrum of "
            "(i + 1)^-decay: 0 is flat.",
            "",
            machine(),
            "",
            *table_head("work", "settings", "median ratio", "lowest", "highest"),
            *ratio_summary(by_work),
            "",
            *table_head("n", "d", "decay", "work", "probemap", "scikit-learn", "scikit-learn / probemap"),
            *lines,
            "",
            "![Time by number of answers, features and cells](growth.png)",
        ],
    )


if __name__ == "__main__":
    main()
