"""Write the model card, which describes a detector's cells, performance, provenance and limitations."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probemap.detectors.head import Head
    from probemap.detectors.provenance import Provenance

_NOT_EVALUATED = (
    "The detector was not evaluated: its performance is unknown, even on questions like those it was fitted to."
)

_FALLBACK = (
    "To have enough data, the fallback was fitted to all answers, including those that have these positions. Its "
    "probabilities take into account how often answers that lack a position were correct."
)
_FALLBACK_EVALUATION = (
    " It was also evaluated on all held-out answers. Few of the answers that lack a position are correct, and the "
    "fallback flags a larger share of these correct answers than the table shows."
)


def model_card(primary: Head, fallback: Head | None, provenance: Provenance | None) -> str:
    """Return the model card as Markdown, with a YAML header for the Hugging Face hub."""
    base = _hub_id(provenance) if provenance else ""
    model = _escaped(provenance.model) if provenance else "a language model"
    header = [
        "---",
        "library_name: probemap",
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "tags: [probemap, probe, correctness-detection]",
        "---",
    ]
    evaluated = primary.evaluation.n > 0
    body = [
        "# Is this answer correct?",
        "",
        f"Linear probes on the hidden states of {model} that estimate the probability that an answer is correct"
        + (", evaluated on held-out questions." if evaluated else "."),
        "",
        *_head_section("What it reads", primary),
    ]
    if fallback:
        body += ["", *_head_section("Fallback for answers that lack one of these positions", fallback)]
        body += ["", _FALLBACK + evaluated * _FALLBACK_EVALUATION]
    if provenance:
        entries = _provenance_entries(provenance)
        body += ["", "## Provenance", ""]
        body += [f"- {name}: {_escaped(value)}" for name, value in entries.items() if value]
    body += [
        "",
        "## Limitations",
        "",
        ("The detector was evaluated on questions like those it was fitted to." if evaluated else _NOT_EVALUATED)
        + " On other questions, prompts or versions of the model, its probabilities may be wrong. The probes may rely "
        "on anything that correlates with correctness, which is not necessarily what the model knows.",
    ]
    return "\n".join([*header, "", *body, ""])


def _head_section(title: str, head: Head) -> list[str]:
    evaluation = head.evaluation
    cells = ", ".join(f"layer {cell.layer} at `{cell.position}`" for cell in head.cells)
    heading = [f"## {title}", "", f"{cells[0].upper()}{cells[1:]}.", ""]
    if not evaluation.n:
        return [
            *heading,
            "Not evaluated: all answers were used to choose, fit and calibrate the probe "
            f"({head.calibration_method}), so no AUC, Brier score or calibration error is available.",
            "",
            "| nominal false-alarm rate | flagged below probability |",
            "| --- | --- |",
            *(f"| {threshold.false_alarms:.0%} | {threshold.p_correct:.3f} |" for threshold in head.thresholds),
        ]
    rows = [
        f"| {threshold.false_alarms:.0%} | {threshold.p_correct:.3f} | {threshold.flagged_correct:.3f} | "
        f"{threshold.flagged_incorrect:.3f} | {_decimal(threshold.precision)} |"
        for threshold in head.thresholds
    ]
    return [
        *heading,
        f"On {evaluation.n} held-out answers, {evaluation.n_correct} of them correct: AUC {evaluation.auc:.3f} "
        f"(95 % CI {evaluation.auc_low:.3f} to {evaluation.auc_high:.3f}), Brier score {evaluation.brier:.3f}, "
        f"expected calibration error {evaluation.calibration_error:.3f} ({head.calibration_method}; with this "
        f"number of answers, perfectly calibrated probabilities would have an error of "
        f"{evaluation.calibration_noise:.3f}).",
        "",
        "| nominal false-alarm rate | flagged below probability | observed false-alarm rate | recall of incorrect "
        "answers | precision |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _provenance_entries(provenance: Provenance) -> dict[str, str]:
    return {
        "model": provenance.model,
        "revision": provenance.revision,
        "dtype": provenance.dtype,
        "chat template, SHA-256": provenance.template,
        "prompt": provenance.task.prompt,
        "exact-answer locator": provenance.locator,
        "hook point": provenance.site,
        "questions": provenance.task.name,
        "source": provenance.task.source,
        "versions": ", ".join(f"{name} {number}" for name, number in provenance.versions.items()),
    }


def _hub_id(provenance: Provenance) -> str:
    """Return the model's hub id, or "" if it has none.

    The hub rejects a model card whose base model is a directory.
    """
    from_hub = re.fullmatch(r"[0-9a-f]{40}", provenance.revision) and re.fullmatch(r"[\w.-]+/[\w.-]+", provenance.name)
    return provenance.name if from_hub else ""


def _escaped(text: str) -> str:
    """Return the text on a single line, with Markdown special characters escaped."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in " ".join(text.split()))
