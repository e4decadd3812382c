"""The card of a detector, for people: where it reads, what it is worth, what it is for."""

import json
import math
import re

from probemap.detectors.head import Branch
from probemap.detectors.provenance import Provenance

_UNJUDGED = (
    "It was not judged: nobody has measured what it is worth, not even on questions like those that it was made from."
)

_FOR_THE_REST = (
    "It was made from all answers, those that have the positions too, so that there are enough. Its probabilities "
    "count in how often answers that lack one were right."
)
_JUDGED_WITH_OTHERS = (
    " It was judged on all of them as well: of the right answers that lack a position, where these are few, it flags "
    "more than the table says."
)


def card(main: Branch, fallback: Branch | None, provenance: Provenance | None) -> str:
    """Markdown, with the header that model hubs read."""
    base = _hub_id(provenance) if provenance else ""
    model = _plain(provenance.model) if provenance else "a model"
    header = [
        "---",
        "library_name: probemap",
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "tags: [probemap, probe, correctness-detection]",
        "---",
    ]
    judged = main.quality.n > 0
    body = [
        "# Is this answer right?",
        "",
        f"Linear probes of hidden states of {model} that give an answer's probability of "
        "being right"
        + (", judged on questions that took no part in choosing, fitting or calibrating them." if judged else "."),
        "",
        *_branch("Where it reads", main),
    ]
    if fallback:
        body += ["", *_branch("Where an answer lacks one of these positions", fallback)]
        body += ["", _FOR_THE_REST + judged * _JUDGED_WITH_OTHERS]
    facts = _facts(provenance) if provenance else {}
    if facts:
        body += ["", "## What it belongs to", ""]
        body += [f"- {name}: {_plain(value)}" for name, value in facts.items() if value]
    body += [
        "",
        "## What it is not",
        "",
        ("It was judged on questions like those that it was made from." if judged else _UNJUDGED)
        + " On other questions, prompts or versions of the model its probabilities may be wrong. It reads what goes "
        "with being right, which need not be knowledge.",
    ]
    return "\n".join([*header, "", *body, ""])


def _branch(title: str, branch: Branch) -> list[str]:
    quality = branch.quality
    cells = ", ".join(f"layer {cell.layer} at `{cell.position}`" for cell in branch.cells)
    begins = [f"## {title}", "", f"{cells[0].upper()}{cells[1:]}.", ""]
    if not quality.n:
        return [
            *begins,
            f"Not judged: every answer took part in choosing, fitting and calibrating it ({branch.kind}), so there is "
            "no AUC, no Brier score and no calibration error.",
            "",
            "| right answers flagged, asked for | flags below probability |",
            "| --- | --- |",
            *(f"| {one.false_alarms:.0%} | {one.p_correct:.3f} |" for one in branch.thresholds),
        ]
    rows = [
        f"| {one.false_alarms:.0%} | {one.p_correct:.3f} | {one.flagged_right:.3f} | {one.flagged_wrong:.3f} | "
        f"{'–' if math.isnan(one.precision) else f'{one.precision:.3f}'} |"
        for one in branch.thresholds
    ]
    return [
        *begins,
        f"On {quality.n} answers, {quality.n_right} of them right: AUC {quality.auc:.3f} (95 % interval "
        f"{quality.auc_low:.3f} to {quality.auc_high:.3f}), Brier score {quality.brier:.3f}, expected calibration "
        f"error {quality.calibration_error:.3f} ({branch.kind}; on so few answers true probabilities would show "
        f"{quality.calibration_noise:.3f}).",
        "",
        "| right answers flagged, asked for | flags below probability | right answers flagged | wrong answers flagged "
        "| of the flagged, wrong |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]


def _facts(provenance: Provenance) -> dict[str, str]:
    return {
        "model": provenance.model,
        "revision": provenance.revision,
        "dtype": provenance.dtype,
        "chat template, SHA-256": provenance.template,
        "prompt": provenance.task.prompt,
        "exact answer found by": provenance.locator,
        "site": provenance.site,
        "questions": provenance.task.name,
        "source": provenance.task.source,
        "versions": ", ".join(f"{name} {number}" for name, number in provenance.versions.items()),
    }


def _hub_id(provenance: Provenance) -> str:
    """The model's hub id; empty if it is not known to be one: hubs refuse a card that names a folder."""
    from_hub = re.fullmatch(r"[0-9a-f]{40}", provenance.revision) and re.fullmatch(r"[\w.-]+/[\w.-]+", provenance.name)
    return provenance.name if from_hub else ""


def _plain(text: str) -> str:
    """Text that starts no markup, on one line."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in " ".join(text.split()))
