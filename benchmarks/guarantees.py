"""Check the guarantees of exported detectors in simulations: ``python benchmarks/guarantees.py [EXPORTS]``.

EXPORTS detectors (default 10,000) are fitted to simulated states, in equal numbers per setting.  Writes
``benchmarks/results/guarantees.md``.

The states of correct and incorrect answers are Gaussian, so that the rates of a detector on new answers follow from the
weights of its probe.  The answers to a question share a part of their states, and questions differ in difficulty, so
the labels and the scores of a question depend on each other.
"""

import argparse

import numpy as np
import torch
from report import machine, simulation_table, write
from scipy.stats import norm

from probemap.detectors.fit import fit_detector
from probemap.records import TooFewError

LAYERS, WIDTH = 3, 12
SETTINGS = tuple((n, per_question) for n in (40, 100, 300, 1000) for per_question in (1, 4))
"""Questions and answers per question.  With 4, each question has one to four answers."""
FALSE_ALARMS, RISK, CONFIDENCE = (0.05, 0.2), 0.1, 0.9
SHIFT = 2.0
SHARE_CORRECT = 0.55


def simulate_export(setting: tuple[int, int, int]) -> dict[str, float]:
    """Fit a detector, and return its rates on new answers."""
    n_questions, per_question, seed = setting
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, per_question + 1, size=n_questions)
    group = np.repeat(np.arange(n_questions), sizes)
    # A probit model: the difficulty of the question has half of the variance.
    correct = np.sqrt(0.5) * (rng.normal(size=n_questions)[group] + rng.normal(size=len(group))) < norm.ppf(
        SHARE_CORRECT
    )
    states = 0.7 * rng.normal(size=(n_questions, LAYERS, 1, WIDTH))[group]
    states = states + np.sqrt(1 - 0.7**2) * rng.normal(size=(len(group), LAYERS, 1, WIDTH))
    shifts = SHIFT * np.linspace(0.5, 1.0, LAYERS)
    states[:, :, 0, 0] += correct[:, None] * shifts
    try:
        detector = fit_detector(
            states.astype(np.float32),
            correct,
            groups=group,
            positions=["-1"],
            held_out=None,
            c=0.01,
            false_alarms=FALSE_ALARMS,
            risks=(RISK,),
            confidence=CONFIDENCE,
            seed=seed,
        )
    except TooFewError:  # fewer than 10 answers of a class: no detector is exported, and the answers are drawn again
        return simulate_export((n_questions, per_question, seed + 10_000_000))
    head = detector.primary
    weight, bias, layer = head.weight[0], float(head.bias[0]), head.cells[0].layer
    mean, deviation = bias + weight[0] * shifts[layer], float(np.linalg.norm(weight))

    def below(score: float) -> tuple[float, float]:
        """Return the shares of the correct and of the incorrect answers with a lower score."""
        if np.isnan(score):
            return 0.0, 0.0
        return float(norm.cdf((score - mean) / deviation)), float(norm.cdf((score - bias) / deviation))

    result: dict[str, float] = {}
    for threshold in head.thresholds:
        rate, recall = below(threshold.score)
        oracle = below(mean + deviation * float(norm.ppf(threshold.false_alarms)))[1]
        result |= {
            f"false alarms at {threshold.false_alarms:.0%}": rate,
            f"recall at {threshold.false_alarms:.0%}": recall,
            f"oracle's recall at {threshold.false_alarms:.0%}": oracle,
        }
    score = head.acceptances[0].score
    accepted_correct, accepted_incorrect = (0.0, 0.0) if np.isnan(score) else (1 - share for share in below(score))
    coverage = SHARE_CORRECT * accepted_correct + (1 - SHARE_CORRECT) * accepted_incorrect
    risk = (1 - SHARE_CORRECT) * accepted_incorrect / coverage if coverage else 0.0
    return {**result, f"risk above {RISK:.0%}": float(risk > RISK), "coverage": coverage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exports", type=int, nargs="?", default=10_000)
    per_setting = parser.parse_args().exports // len(SETTINGS)
    lines = [
        "# Guarantees of exported detectors",
        "",
        f"Each row: means over {per_setting} simulated exports with {LAYERS} cells, d = {WIDTH}.  In brackets: the "
        "standard error of the simulation.  "
        f"Acceptance: at most {RISK:.0%} incorrect with {CONFIDENCE:.0%} confidence.",
        "",
        machine(),
        "",
    ]
    lines += simulation_table(
        simulate_export,
        [
            (
                {"questions": n, "answers per question": f"1 to {most}" if most > 1 else 1},
                [(n, most, 100_000 * number + seed) for seed in range(per_setting)],
            )
            for number, (n, most) in enumerate(SETTINGS)
        ],
    )
    write("guarantees", lines)


if __name__ == "__main__":
    main()
