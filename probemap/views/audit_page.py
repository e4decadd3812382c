"""Create the page on which a person labels the answers of an audit.

The page is self-contained.  It shows one answer at a time, stores the labels in the browser's local storage, and
exports them as a file in the format of ``audit.jsonl``.  It does not show verdicts.  Texts are inserted as text nodes,
and the content security policy allows no network requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from probemap.views.printable import printable
from probemap.views.report import asset, environment, policy

if TYPE_CHECKING:
    from probemap.records import AuditRow


def render_audit(rows: Sequence[AuditRow], title: str = "answers") -> str:
    """Render the answers of an audit as one self-contained HTML page.

    Parameters
    ----------
    rows : sequence of AuditRow
        The answers and their existing labels.
    title : str
        Name of the run, shown in the heading.

    Returns
    -------
    str
        The HTML page.
    """
    script = asset("audit.js")
    drawn = repr([(row.id, row.question, row.answer) for row in rows])
    return (
        environment()
        .get_template("audit.html")
        .render(
            title=_visible(title),
            style=asset("page.css") + asset("audit.css"),
            script=script,
            policy=policy([script]),
            content={
                # The key depends on the answers, so that stored labels are not used for other answers.
                "key": f"probemap-audit-{hashlib.sha256(drawn.encode('utf-8', 'replace')).hexdigest()[:16]}",
                "rows": [_content(row) for row in rows],
            },
            version=version("probemap"),
        )
    )


def _content(row: AuditRow) -> dict[str, Any]:
    """Return a row of ``audit.jsonl``, and its texts in the form in which they are displayed."""
    texts = [("Context", row.context), ("Question", row.question), ("Choices", "; ".join(row.choices))]
    texts += [("Accepted answers", "; ".join(row.accepted))]
    return {
        "row": asdict(row),
        "texts": [[name, _visible(text)] for name, text in texts if text],
        "answer": _visible(row.answer),
    }


def _visible(text: str) -> str:
    """Return the text with control characters and direction marks escaped.  Line breaks are kept."""
    return "\n".join(printable(line) for line in text.split("\n"))
