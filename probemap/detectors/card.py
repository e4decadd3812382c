"""Write the model card, which describes a detector's cells, performance, provenance and limitations."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probemap.detectors.head import Acceptance, Head, Threshold
    from probemap.detectors.provenance import Provenance
    from probemap.probing.bootstrap import SelectiveMetrics

_NOT_EVALUATED = (
    "The detector was not evaluated: its performance is unknown, even on questions like those it was fitted to."
)

_FALLBACK = (
    "To have enough data, the fallback was fitted to all answers, including those that have these positions. Its "
    "probabilities take into account how often answers that lack a position were correct."
)
_FALLBACK_EVALUATION = " It was also evaluated on all held-out answers."
_GUARANTEE = (
    "These limits hold for answers to new questions that are exchangeable with the held-out questions: drawn in the "
    "same way, and answered by the same model with the same settings. The false-alarm rate is the share of the correct "
    "answers that are flagged. It holds on average over detectors that are fitted in the same way; the fewer answers "
    "were held out, the more the rate of a single detector varies around this average. The share of incorrect answers "
    "among the accepted answers stays below its limit for at least the stated share of such detectors (the "
    "confidence). Both limits hold for the detector as a whole, not for a subgroup of the questions, and not for other "
    "questions, prompts or versions of the model."
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
    guaranteed = [_GUARANTEE] if primary.thresholds or primary.acceptances else []
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
    body += ["", *guaranteed] if guaranteed else []
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
    thresholds = [f"- {text[0].upper()}{text[1:]}." for text in map(threshold_text, head.thresholds)]
    thresholds += [f"- {text[0].upper()}{text[1:]}." for text in map(acceptance_text, head.acceptances)]
    if not evaluation.n:
        return [
            *heading,
            f"Not evaluated: no AUC, Brier score or calibration error is available ({head.calibration_method}).",
            "",
            *thresholds,
        ]
    return [
        *heading,
        f"On {evaluation.n} held-out answers, {evaluation.n_correct} of them correct: AUC {evaluation.auc:.3f} "
        f"(95 % CI {evaluation.auc_low:.3f} to {evaluation.auc_high:.3f}), Brier score {evaluation.brier:.3f}, "
        f"expected calibration error {evaluation.calibration_error:.3f} ({head.calibration_method}; with this "
        f"number of answers, perfectly calibrated probabilities would have an error of "
        f"{evaluation.calibration_noise:.3f}).",
        "",
        *_metric_table(evaluation.metrics),
        *thresholds,
    ]


def _metric_table(metrics: SelectiveMetrics | None) -> list[str]:
    """Return a table of the further metrics with their 95 % intervals, or no lines if there are none."""
    if metrics is None:
        return []
    return [
        "| metric | value [95 % CI, bootstrap over questions] |",
        "| --- | --- |",
        f"| average precision for incorrect answers (AUPRC) | {metrics.auprc_incorrect.text} |",
        f"| area under the risk–coverage curve (AURC), lower is better | {metrics.aurc.text} |",
        f"| AURC above that of a perfect order | {metrics.excess_aurc.text} |",
        f"| prediction rejection ratio (PRR) | {metrics.prr.text} |",
        f"| highest F1 of flagging incorrect answers | {metrics.f1.text} |",
        f"| log-loss | {metrics.log_loss.text} |",
        f"| Brier score | {metrics.brier.text} |",
        f"| expected and maximum calibration error, equal-width bins | {metrics.ece:.3f} and {metrics.mce:.3f} |",
        "",
    ]


def threshold_text(threshold: Threshold) -> str:
    """Return a line about the threshold for a false-alarm rate."""
    rate = f"false-alarm rate of at most {threshold.false_alarms:.0%}"
    if math.isnan(threshold.score):
        needed = math.ceil(1 / threshold.false_alarms) - 1 if threshold.false_alarms else 0
        return f"{rate}: nothing is flagged, because fewer than {needed} questions with a correct answer are held out"
    return (
        f"{rate}: flags answers with p(correct) below {threshold.p_correct:.2f}, which are "
        f"{_percent(threshold.flagged_incorrect)} of the incorrect answers; precision {_percent(threshold.precision)}"
    )


def acceptance_text(acceptance: Acceptance) -> str:
    """Return a line about an acceptance threshold."""
    goal = f"at most {acceptance.risk:.0%} incorrect among the accepted answers, with {acceptance.confidence:.0%} "
    goal += "confidence"
    if math.isnan(acceptance.score):
        return f"{goal}: nothing is accepted, because no threshold can be shown to keep this limit"
    return (
        f"{goal}: accepts answers with p(correct) of at least {acceptance.p_correct:.2f}, which are "
        f"{_percent(acceptance.coverage)} of all answers"
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.0%}"


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
