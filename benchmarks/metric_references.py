"""Compare metrics and guarantees with the libraries of the field: ``python benchmarks/metric_references.py``.

The references are LM-Polygraph 0.7.0 (PRR, area under the risk-coverage curve, PR-AUC, ECE), uqlm 0.6.7 (ECE, MCE, log
loss, Brier score) and MAPIE 1.6.0 (Learn then Test).  Their versions conflict with those of this project, so they need
an environment of their own::

    python -m venv references
    references/bin/pip install numpy scipy scikit-learn pandas xarray pydantic matplotlib cloudpickle torch
    references/bin/pip install --no-deps lm-polygraph==0.7.0 uqlm==0.6.7 mapie==1.6.0 --editable .
    references/bin/python benchmarks/metric_references.py

Only the modules with the metrics are imported: `bare_package` avoids the ``__init__`` modules, which import language
models.  Writes ``benchmarks/results/metric_references.md``.

LM-Polygraph sorts tied scores in the order of the data.  Its mean over all orders, with which this project is compared,
is its value for labels that are replaced by their mean over the tied answers, because both areas are linear in the
labels.  The range over orders is reported as well.
"""

import sys
import warnings
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from report import machine, row, table_head, write
from scipy.stats import binom

from probemap.detectors.guarantees import acceptance_threshold
from probemap.probing.auc import Bools, Floats, Ints
from probemap.probing.bootstrap import selective_metrics
from probemap.probing.selective import aurc, calibration_gaps, prediction_rejection_ratio

N_VECTORS = 500
N_ORDERS = 20
RISK, CONFIDENCE = 0.2, 0.9


def bare_package(name: str) -> None:
    """Register a package whose modules can be imported without its ``__init__``."""
    parent, _, child = name.rpartition(".")
    if parent:
        path = Path(sys.modules[parent].__path__[0]) / child
    else:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None, f"{name} is not installed"
        path = Path(spec.origin).parent
    module = ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


def reference_modules() -> dict[str, Any]:
    """Return the modules of the references, by a short name."""
    for name in ("lm_polygraph", "lm_polygraph.ue_metrics", "uqlm", "uqlm.utils", "uqlm.calibration"):
        bare_package(name)
    return {
        "prr": import_module("lm_polygraph.ue_metrics.pred_rej_area"),
        "risk_coverage": import_module("lm_polygraph.ue_metrics.risk_cov_curve"),
        "pr_auc": import_module("lm_polygraph.ue_metrics.pr_auc"),
        "ece": import_module("lm_polygraph.ue_metrics.ece"),
        "normalisation": import_module("lm_polygraph.ue_metrics.ue_metric"),
        "uqlm": import_module("uqlm.calibration.evaluate"),
        "mapie": import_module("mapie.risk_control"),
        "p_values": import_module("mapie.risk_control.methods"),
    }


def draw(rng: np.random.Generator, *, tied: bool) -> tuple[Floats, Floats, Bools]:
    """Return scores, probabilities and labels with both classes, for a random n and share of correct answers."""
    while True:
        n = int(rng.integers(5, 800))
        correct = rng.random(n) < rng.beta(1.5, 1.5)
        if correct.any() and not correct.all():
            break
    scores = rng.normal(size=n) + rng.uniform(-0.5, 3) * correct
    if tied:
        scores = np.round(scores * rng.choice([0.5, 2, 5]))
    probabilities = 1 / (1 + np.exp(-rng.uniform(0.5, 3) * scores))
    return scores, np.round(probabilities, 1) if tied else probabilities, correct


def tied_means(scores: Floats, correct: Bools) -> Floats:
    """Return the labels as numbers, replaced by their mean over the answers with the same score."""
    _, number, size = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(number, correct) / size)[number], np.float64)


def polygraph_area(metric: Any, scores: Floats, target: Floats) -> float:
    """Return LM-Polygraph's area, with its normalisation of the target to 0 … 1 undone."""
    area, low, span = float(metric(-scores, target)), float(target.min()), float(np.ptp(target))
    if np.isclose(span, 0):
        low, span = low - 1, 2.0
    is_risk = "rcc" in str(metric)
    return (1 - low - span) + span * area if is_risk else low + span * area


def compare_polygraph(
    modules: dict[str, Any], scores: Floats, correct: Bools, differences: dict[str, list[float]]
) -> None:
    labels = correct.astype(np.float64)
    target, tied = tied_means(scores, correct), len(np.unique(scores)) < len(scores)
    risk_coverage = modules["risk_coverage"].RiskCoverageCurveAUC()
    value = aurc(scores, correct)
    differences["AURC"].append(abs(value - polygraph_area(risk_coverage, scores, target)))
    for share in (1.0, 0.5):
        metric = modules["prr"].PredictionRejectionArea(max_rejection=share)
        ratio = prediction_rejection_ratio(scores, correct, max_rejection=share)
        oracle, area = float(metric(-labels, labels)), polygraph_area(metric, scores, target)
        exact = modules["normalisation"].normalize_metric(area, oracle, labels.mean())
        differences[f"PRR, max_rejection {share}"].append(abs(ratio - exact))
        if share == 1:
            shuffled = modules["normalisation"].get_random_scores(metric, labels)
            estimated = modules["normalisation"].normalize_metric(area, oracle, shuffled)
            differences["PRR with 1000 shuffles"].append(abs(ratio - estimated))
    if tied:
        orders = [np.random.default_rng(seed).permutation(len(scores)) for seed in range(N_ORDERS)]
        differences["AURC range over orders"].append(
            float(np.ptp([risk_coverage(-scores[order], labels[order]) for order in orders]))
        )


def compare_calibration(
    modules: dict[str, Any], probabilities: Floats, correct: Bools, differences: dict[str, list[float]]
) -> None:
    reference = modules["uqlm"]._evaluate_single_calibrator(probabilities, correct.astype(int), plot=False)
    metrics = selective_metrics(probabilities, probabilities, correct, resamples=0)
    differences["ECE"].append(abs(metrics.ece - reference["ece"]))
    differences["MCE"].append(abs(metrics.mce - reference["mce"]))
    differences["log-loss"].append(abs(metrics.log_loss.value - reference["log_loss"]))
    differences["Brier score"].append(abs(metrics.brier.value - reference["brier_score"]))
    twenty = modules["ece"].ECE(n_bins=20)(-probabilities, correct.astype(float))
    differences["ECE, 20 bins"].append(abs(calibration_gaps(probabilities, correct, bins=20)[0] - twenty))
    incorrect = modules["pr_auc"].PRAUC()(-probabilities, (~correct).astype(int))
    differences["PR-AUC, incorrect"].append(abs(metrics.auprc_incorrect.value - incorrect))
    swapped = modules["pr_auc"].PRAUC(positive_class=0, negative_class=1)
    as_correct = swapped(-probabilities, (~correct).astype(int))
    differences["PR-AUC, correct"].append(abs(metrics.auprc_correct.value - as_correct))


def compare_thresholds(
    modules: dict[str, Any], probabilities: Floats, correct: Bools, differences: dict[str, list[float]]
) -> None:
    """Compare with MAPIE, which is given the same thresholds from high to low.

    MAPIE reverses the sequence if it sees a risk that falls on average.  Such vectors are left out.
    """
    values, number, size = np.unique(-probabilities, return_inverse=True, return_counts=True)
    n_accepted: Ints = np.cumsum(size)
    n_errors: Ints = np.cumsum(np.bincount(number, ~correct))
    p = modules["p_values"].compute_hoeffding_bentkus_p_value(n_errors / n_accepted, n_accepted, RISK, True)[:, 0]
    rounded_up = np.ceil(n_accepted * (n_errors / n_accepted)) > n_errors
    exact: Floats = np.asarray(binom.cdf(n_errors, n_accepted, RISK))
    differences["p-value"] += np.abs(p - exact)[~rounded_up].tolist()
    differences["p-value, error count rounded up"] += np.abs(p - exact)[rounded_up].tolist()
    needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log1p(-RISK)))
    start = int(np.searchsorted(n_accepted, max(needed, min(3 * needed, len(correct) // 2))))
    if len(values) - start < 2 or n_errors[-1] / n_accepted[-1] <= n_errors[start] / n_accepted[start]:
        return
    controller = modules["mapie"].BinaryClassificationController(
        predict_function=lambda x: np.stack([1 - x, x], axis=1),
        risk="precision",
        target_level=1 - RISK,
        confidence_level=CONFIDENCE,
        list_predict_params=-values[start:],
        fwer_method="fixed_sequence",
    )
    controller.calibrate(probabilities, correct.astype(int))
    best = controller.best_predict_param
    reference = 0 if best is None else int((probabilities >= best).sum())
    accepted = acceptance_threshold(probabilities, correct, None, risk=RISK, confidence=CONFIDENCE)
    # The controller computes error counts as n (1 - precision), which is rounded up more often than above.
    tested = slice(0, 1 + int(np.cumprod(exact[start:] <= 1 - CONFIDENCE).sum()))
    counted = np.allclose(controller.p_values[tested, 0], exact[start:][tested], rtol=0, atol=1e-9)
    name = "accepted answers" if counted else "accepted answers, error count rounded up"
    differences[name].append(abs(accepted.n_accepted - reference))


REFERENCES = {
    "PRR, max_rejection 1.0": "LM-Polygraph, random area = accuracy",
    "PRR, max_rejection 0.5": "LM-Polygraph, random area = accuracy",
    "PRR with 1000 shuffles": "LM-Polygraph, random area from 1000 shuffles",
    "AURC": "LM-Polygraph",
    "AURC range over orders": f"LM-Polygraph, tied scores in {N_ORDERS} orders",
    "PR-AUC, incorrect": "LM-Polygraph",
    "PR-AUC, correct": "LM-Polygraph, classes swapped",
    "ECE, 20 bins": "LM-Polygraph",
    "ECE": "uqlm",
    "MCE": "uqlm",
    "log-loss": "uqlm",
    "Brier score": "uqlm",
    "p-value": "MAPIE, Hoeffding-Bentkus for binary losses",
    "p-value, error count rounded up": "MAPIE",
    "accepted answers": "MAPIE, fixed sequence",
    "accepted answers, error count rounded up": "MAPIE, fixed sequence",
}


def main() -> None:
    warnings.simplefilter("ignore")  # MAPIE warns about risks that are not monotonic, and if no threshold is found
    modules, rng = reference_modules(), np.random.default_rng(0)
    differences: dict[str, list[float]] = defaultdict(list)
    for number in range(N_VECTORS):
        scores, probabilities, correct = draw(rng, tied=number % 2 == 1)
        compare_polygraph(modules, scores, correct, differences)
        compare_calibration(modules, probabilities, correct, differences)
        compare_thresholds(modules, probabilities, correct, differences)
    lines = [
        "# Metrics and guarantees against reference libraries",
        "",
        machine(),
        "",
        f"LM-Polygraph 0.7.0, uqlm 0.6.7 and MAPIE 1.6.0 on {N_VECTORS} random vectors of 5 to 799 answers; every "
        "second vector has tied scores.  With ties, LM-Polygraph is given the mean label of the tied answers, which "
        f"yields its mean over all orders.  Learn then Test: a risk of {RISK:g} with a confidence of {CONFIDENCE:g}.  "
        "MAPIE computes the number of errors from a share and rounds it up, so that rounding in floating point can add "
        "one error; these values are listed separately.",
        "",
        *table_head("metric", "reference", "values", "largest difference", "values that differ by more than 1e-9"),
    ]
    for name, reference in REFERENCES.items():
        values = np.array(differences[name])
        largest = f"{values.max():.1e}" if len(values) else "–"
        lines.append(row(name, reference, len(values), largest, int((values > 1e-9).sum())))
    print("\n".join(lines))
    write("metric_references", lines)


if __name__ == "__main__":
    main()
