"""Measure the coverage of the interval of the premium in simulations: ``python benchmarks/peer_coverage.py [MAPS]``.

Each setting is simulated MAPS times (default 300).  Writes ``benchmarks/results/peer_coverage.md``.

Two models have states with unit noise, half of whose variance both share, at 3 layers of one position.  In one layer,
the states of correct answers are shifted, by a different amount in each model.  On a fifth of the questions, only one
of the models is correct; there, the shift of the peer may be 0.  The truth is the difference between the AUCs
Φ(shift / √2) of probes without estimation error.  Estimation errors lower both AUCs, so that the mean premium may
differ slightly from it.
"""

import argparse

import numpy as np
from report import machine, row, table_head, write
from scipy.stats import norm

from probemap.maps.fit import fit_map
from probemap.studies.peer import ALL, DISAGREE, peer_table

N, LAYERS, WIDTH, SHARE = 300, 3, 6, 0.2
SETTINGS = ((1.2, 1.2, 1.2), (1.6, 1.0, 1.0), (1.2, 1.2, 0.0))
"""Shift of the model, shift of the peer, and shift of the peer where only one of the models is correct."""


def simulate(setting: tuple[float, float, float], seed: int) -> dict[str, dict[str, float]]:
    """Return the rows of the table for all questions, and for those that only one of the models answers correctly."""
    rng = np.random.default_rng(seed)
    correct, agree = rng.random(N) < 0.45, rng.random(N) >= SHARE
    shared, ids = rng.normal(size=N), [f"q{i}" for i in range(N)]
    maps = []
    for shift in (np.full(N, setting[0]), np.where(agree, setting[1], setting[2])):
        states = rng.normal(size=(N, LAYERS, 1, WIDTH)).astype(np.float32)
        states[:, 1, 0, 0] = np.sqrt(0.5) * (states[:, 1, 0, 0] + shared) + shift * correct
        maps.append(fit_map(states, correct, positions=["-1"], ids=ids, seed=seed))
    table = peer_table(*maps, agreement=dict(zip(ids, agree.tolist(), strict=True)))
    rows = [dict(zip(table.columns, cells, strict=True)) for cells in table.rows[:3]]
    return {str(cells["questions"]): cells for cells in rows}  # type: ignore[misc]


def summary(rows: list[dict[str, float]], truth: float) -> list[str]:
    """Return the mean premium minus its truth, its standard deviation, the mean standard error, and the coverage."""
    value, low, high = (np.array([r[f"premium{end}"] for r in rows]) for end in ("", " low", " high"))
    covered = (low <= truth) & (truth <= high)
    error = np.sqrt(covered.mean() * (1 - covered.mean()) / len(rows))
    return [
        f"{(value - truth).mean():+.3f}",
        f"{value.std():.3f}",
        f"{((high - low) / (2 * norm.ppf(0.975))).mean():.3f}",
        f"{covered.mean():.3f} ({error:.3f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=int, nargs="?", default=300)
    n_maps = parser.parse_args().maps
    columns = ("premium minus its truth", "standard deviation", "mean standard error", "coverage of the 95 % interval")
    lines = [
        "# Coverage of the premium",
        "",
        f"Each row: {n_maps} simulated pairs of maps of {N} answers, {LAYERS} × 1 cells, d = {WIDTH}, five folds, "
        "C = 1.  In brackets: the standard error of the simulation.  The truth is that of probes without estimation "
        "error.",
        "",
        machine(),
        "",
        *table_head("shift", "shift of the peer", "the same, only one correct", "questions", "true premium", *columns),
    ]
    for setting in SETTINGS:
        results = [simulate(setting, seed) for seed in range(n_maps)]
        own, peer, differing = norm.cdf(np.array(setting) / np.sqrt(2))
        for questions, truth in ((ALL, own - peer), (DISAGREE, own - differing)):
            if questions == ALL and peer != differing:
                continue  # the truth for all questions is not that of a single shift
            lines.append(row(*setting, questions, f"{truth:.3f}", *summary([r[questions] for r in results], truth)))
            print(lines[-1], flush=True)
    write("peer_coverage", lines)


if __name__ == "__main__":
    main()
