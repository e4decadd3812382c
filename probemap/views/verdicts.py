"""Verdicts as text: counts by reason, and examples for each rule with the words that determined the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from probemap.views.printable import printable

if TYPE_CHECKING:
    from probemap.records import Answer, Example, Judgement, Verdict

VERDICT_NAMES = {True: "correct", False: "incorrect", None: "undecided"}
"""Mapping from a verdict to the word that is shown for it."""

_WIDTH = 160
"""Approximate maximum number of characters that are shown of a question or of an answer."""


def undecided_reasons(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Return the number of undecided answers for each reason, most frequent first."""
    return dict(Counter(j.verdict.reason for j in judgements if j.verdict.correct is None).most_common())


def without_exact_answer(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Return the number of decided answers without an exact answer for each reason, most frequent first.

    Each reason includes the numbers of correct and of incorrect answers to which it applies.  If these are different
    shares of all correct and of all incorrect answers, the presence of an exact answer is related to correctness.

    Examples
    --------
    >>> from probemap import Judgement, Span, Verdict
    >>> from probemap.views.verdicts import without_exact_answer
    >>> found = Judgement("a", Verdict(True, "names an accepted answer"), Span(3, 4, "Rome"))
    >>> missing = Judgement("b", Verdict(False, "names no possible answer"), None, "no exact answer found")
    >>> without_exact_answer([found, missing])
    {'no exact answer found (0 of 1 correct, 1 of 1 incorrect)': 1}
    """
    totals = Counter(j.verdict.correct for j in judgements)
    missing = [j for j in judgements if j.span is None and j.verdict.correct is not None]
    counts: dict[str, int] = {}
    for reason, n in Counter(j.no_span for j in missing).most_common():
        n_correct = sum(j.verdict.correct is True for j in missing if j.no_span == reason)
        shares = f"{n_correct} of {totals[True]} correct, {n - n_correct} of {totals[False]} incorrect"
        counts[f"{reason} ({shares})" if reason else shares] = n
    return counts


def verdict_text(verdict: Verdict, answer: Answer) -> str:
    """Return a verdict with its reason, its rule and the words that determined it.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from probemap import Verdict
    >>> from probemap.views.verdicts import verdict_text
    >>> answer = SimpleNamespace(final=SimpleNamespace(text="It is Rome."))
    >>> verdict_text(Verdict(False, "names another answer", "first name asserted", (6, 10)), answer)
    'incorrect: names another answer (first name asserted: "Rome")'
    """
    text = VERDICT_NAMES[verdict.correct] + (f": {verdict.reason}" if verdict.reason else "")
    if verdict.evidence is None:
        return text
    start, stop = verdict.evidence
    return f'{text} ({verdict.rule}: "{answer.final.text[start:stop]}")'


def explain_verdicts(
    examples: Sequence[Example], answers: Sequence[Answer], judgements: Sequence[Judgement], *, n: int = 20
) -> RenderableType:
    """Return the verdicts, grouped by reason and rule, with examples.

    In each example, the words that determined the verdict are highlighted.

    Parameters
    ----------
    examples : sequence of Example
    answers : sequence of Answer
    judgements : sequence of Judgement
        One example, answer and judgement per question, in the same order.
    n : int
        Maximum number of examples per rule.  They are spread evenly over the answers.
    """
    groups: dict[tuple[bool | None, str, str], list[int]] = {}
    for row, judgement in enumerate(judgements):
        verdict = judgement.verdict
        groups.setdefault((verdict.correct, verdict.reason, verdict.rule), []).append(row)
    blocks: list[RenderableType] = []
    for (correct, reason, rule), rows in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0][1:])):
        title = f"{VERDICT_NAMES[correct]}: {printable(reason)}{f' ({printable(rule)})' if rule else ''}"
        text = Text(f"{title}, {len(rows)} answers\n", "bold")
        shown = rows if len(rows) <= n else [rows[k * len(rows) // n] for k in range(n)]
        for row in shown:
            text.append_text(_example_line(examples[row], answers[row], judgements[row].verdict))
        blocks.append(text)
    return Group(*blocks)


def _example_line(example: Example, answer: Answer, verdict: Verdict) -> Text:
    """Return one line: the question, the text around the words that determined the verdict, and accepted answers."""
    text, (start, stop) = answer.final.text, verdict.evidence or (0, 0)
    first = max(0, min(start - _WIDTH // 3, len(text) - _WIDTH))
    last = max(stop, first + _WIDTH)
    line = Text(f"  {printable(example.id)}  ", "dim")
    line.append(f"{printable(example.question[-_WIDTH:])} → ", "default not dim")
    line.append("…" if first else "", "dim")
    line.append(printable(text[first:start]), "default not dim")
    line.append(printable(text[start:stop]), "bold reverse not dim")
    line.append(printable(text[stop:last]) or ("" if text else "(empty)"), "default not dim")
    line.append("…" if last < len(text) else "", "dim")
    line.append(f"  [{printable('; '.join(example.answers[:3]))}]\n", "cyan not dim")
    return line
