"""Create the page on which a person labels the answers of an audit.

The page is self-contained.  It shows one answer at a time, keeps the labels in the browser's local storage, and saves
them as a file in the format of ``audit.jsonl``.  It does not show verdicts.  Texts are inserted as text nodes, and the
content security policy allows no network requests.
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
        The answers, with the labels that they already have.
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
                # Labels in the browser's storage belong to these answers only.
                "key": f"probemap-audit-{hashlib.sha256(drawn.encode('utf-8', 'replace')).hexdigest()[:16]}",
                "rows": [_content(row) for row in rows],
            },
            version=version("probemap"),
        )
    )


def _content(row: AuditRow) -> dict[str, Any]:
    """Return the content of a row of the file, and the texts in the form in which they are shown."""
    texts = [("Context", row.context), ("Question", row.question), ("Choices", "; ".join(row.choices))]
    texts += [("Accepted answers", "; ".join(row.accepted))]
    return {
        "row": asdict(row),
        "texts": [[name, _visible(text)] for name, text in texts if text],
        "answer": _visible(row.answer),
    }


def _visible(text: str) -> str:
    """Escape control characters and direction marks, but not line breaks."""
    return "\n".join(printable(line) for line in text.split("\n"))
