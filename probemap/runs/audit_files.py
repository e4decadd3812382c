"""Draw answers for an audit, and read and write the labels that a person assigns to them.

``audit.jsonl`` contains the drawn answers and their labels.  ``audit_draw.json`` records how they were drawn.  It also
contains the verdicts, which the person must not see before labelling the answers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from probemap.records import AuditRow, RunError
from probemap.runs.answer_file import first_error
from probemap.studies.audit_draw import AuditDraw, AuditStratum, draw_audit

if TYPE_CHECKING:
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import AuditOptions
    from probemap.runs.run import Run

LABELS, DRAW = "audit.jsonl", "audit_draw.json"
DEFAULT_N = 80
"""Number of answers that are drawn by default."""

_AGAIN = f"move {LABELS} and {DRAW} to another directory to draw again"


@dataclass(frozen=True)
class RecordedDraw:
    """The content of ``audit_draw.json``."""

    seed: int
    n: int
    """Number of answers that were requested."""
    verdicts: str
    """SHA-256 of ``verdicts.jsonl`` at the time of the draw."""
    strata: tuple[AuditStratum, ...]
    ids: tuple[str, ...]
    """Ids of the drawn answers."""
    stratum: tuple[int, ...]
    """For each drawn answer, the index of its stratum in `strata`."""

    @property
    def weights(self) -> tuple[float, ...]:
        """For each drawn answer, the inverse of its probability of being drawn."""
        return tuple(self.strata[number].weight for number in self.stratum)


_ROW, _DRAW = TypeAdapter(AuditRow), TypeAdapter(RecordedDraw)


def draw_answers(
    run: Run, graded: GradedAnswers, options: AuditOptions, log: Callable[[str], None] = lambda text: None
) -> tuple[RecordedDraw, list[AuditRow]]:
    """Return the draw and the drawn answers with their labels.  If necessary, answers are drawn or added first.

    The files are written only if answers are added.  Existing labels are never changed.  The run directory must be
    locked.

    Raises
    ------
    RunError
        If the files are damaged, if they belong to other answers than those in the run, or if the draw cannot be
        extended.
    DataError
        If too few answers are requested.
    """
    draw = _read_draw(run)
    if draw is None and (run.path / LABELS).exists():
        raise RunError(
            f"{run.path / LABELS} exists, but {DRAW}, which records how its answers were drawn, does not",
            f"restore {DRAW}, or move {LABELS} to another directory to draw again",
        )
    wanted = _draw(run, graded, options, draw)
    if wanted != draw:
        run.write(DRAW, json.dumps(asdict(wanted), indent=1, ensure_ascii=False) + "\n")
    rows = read_rows(run)
    _check(run, graded, wanted, rows)
    labelled = {row.id for row in rows}
    number_of = {name: number for number, name in enumerate(graded.ids)}
    if missing := [number_of[name] for name in wanted.ids if name not in labelled]:
        rows += [_row(graded, number) for number in missing]
        write_rows(run, rows)
        log(f"{len(missing)} answers {'added to' if labelled else 'drawn for an audit, see'} {run.path / LABELS}")
    return wanted, rows


def read_rows(run: Run) -> list[AuditRow]:
    """Return the rows of ``audit.jsonl``, or an empty list if the file does not exist.

    Raises
    ------
    RunError
        If a row is damaged or has an invalid label.
    """
    path = run.path / LABELS
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_ROW.validate_json(line))
        except ValidationError as error:
            if any(details["loc"][:1] == ("correct",) for details in error.errors()):
                raise RunError(
                    f"{path}, line {number}: the label 'correct' is {json.loads(line)['correct']!r:.60}",
                    'enter true, false or "cannot tell", or null for an answer that is not labelled yet',
                ) from None
            raise RunError(
                f"{path}, line {number} is damaged: {first_error(error)}", "restore the line from a copy of the file"
            ) from None
    return rows


def write_rows(run: Run, rows: Sequence[AuditRow]) -> None:
    """Write ``audit.jsonl``."""
    run.write(LABELS, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def write_label(run: Run, labelled: AuditRow) -> None:
    """Write one label to ``audit.jsonl``.  Labels that were saved to the file in the meantime are kept."""
    write_rows(run, [labelled if row.id == labelled.id else row for row in read_rows(run)])


def _read_draw(run: Run) -> RecordedDraw | None:
    path = run.path / DRAW
    if not path.exists():
        return None
    try:
        draw = _DRAW.validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {first_error(error)}", f"restore the file, or {_AGAIN}") from None
    if len(draw.ids) != len(draw.stratum) or any(not 0 <= k < len(draw.strata) for k in draw.stratum):
        raise RunError(f"{path} is damaged: ids and strata do not match", f"restore the file, or {_AGAIN}")
    return draw


def _draw(run: Run, graded: GradedAnswers, options: AuditOptions, before: RecordedDraw | None) -> RecordedDraw:
    """Return the existing draw, an extended draw or a new draw."""
    if before is not None:
        if options.seed not in (None, before.seed):
            raise RunError(
                f"the answers in {run.path / LABELS} were drawn with seed {before.seed}, not {options.seed}",
                f"omit --seed, or {_AGAIN}",
            )
        if options.n is None or options.n <= before.n:
            return before
        if before.verdicts != run.sha256("verdicts.jsonl"):
            raise RunError(
                "the draw cannot be extended, because the verdicts have changed since the answers were drawn",
                f"omit --n to use the {len(before.ids)} answers that were drawn, or {_AGAIN}",
            )
    n, seed = options.n or DEFAULT_N, before.seed if before else options.seed or 0
    draw: AuditDraw = draw_audit([judgement.verdict for judgement in graded.judgements], n, seed=seed)
    ids = tuple(graded.ids[row] for row in draw.rows)
    return RecordedDraw(seed, n, run.sha256("verdicts.jsonl"), draw.strata, ids, draw.stratum)


def _check(run: Run, graded: GradedAnswers, draw: RecordedDraw, rows: Sequence[AuditRow]) -> None:
    """Raise RunError if a row was not drawn, occurs twice, or contains another answer than the run."""
    path = run.path / LABELS
    counts, drawn = Counter(row.id for row in rows), set(draw.ids)
    for name, count in counts.items():
        if count > 1:
            raise RunError(f"{path} contains the answer {name!r} {count} times", "keep one of these lines")
        if name not in drawn:
            raise RunError(f"{path} contains {name!r}, which was not drawn", "remove this line")
    answer_of = dict(zip(graded.ids, graded.answers, strict=True))
    for row in rows:
        if row.id not in answer_of or row.answer != answer_of[row.id].final.text:
            raise RunError(
                f"{path}: the answer to {row.id!r} is not the one that is now in the run",
                f"restore the text of the answer; if the questions were answered again, {_AGAIN}",
            )


def _row(graded: GradedAnswers, number: int) -> AuditRow:
    example, answer = graded.task.examples[number], graded.answers[number]
    return AuditRow(
        id=example.id,
        question=example.question,
        context=example.context,
        choices=example.choices,
        accepted=example.answers,
        answer=answer.final.text,
    )
