"""Write a run's answers, verdicts and probabilities as a log that other tools read."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probemap.logs.exporting import ExportedAnswer, ExportedRun, export_every_eval_ever
from probemap.logs.importing import is_log
from probemap.records import DataError
from probemap.runs.definitions import ANSWER, MAP

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.run import Run


_FIRST_DATE = "1970-01-01"
"""Date for runs of earlier versions, which did not record it."""


WRITERS = {"every-eval-ever": export_every_eval_ever}
"""Mapping from the name of a format to the function that writes it."""


def export_log(
    run: Run, out: Path, *, log_format: str = "every-eval-ever", model_id: str | None = None
) -> tuple[Path, Path, int]:
    """Write a run's answers in the format of another tool.

    If the run has a map, the log also contains the probability that each answer is correct.  It is computed from the
    cross-validated scores of the best cell by Platt scaling: each answer is scored by a probe that was not fitted to
    it, but the cell and the two parameters of the scaling are determined on the same answers.

    Parameters
    ----------
    run : Run
        A run directory with verdicts.
    out : Path
        Output directory.
    log_format : str
        A key of `WRITERS`.
    model_id : str, optional
        Id of the model on the Hugging Face hub.  Default: the name with which the model was loaded.

    Returns
    -------
    aggregate, samples : Path
        Paths of the two files.
    n_undecided : int
        Number of answers that are left out, because the format requires a verdict.

    Raises
    ------
    RunError
        If the run has no verdicts, or if its map does not belong to its answers.
    DataError
        If the id of the model is not of the form ``developer/name``.
    """
    graded, record = run.graded, run.record(ANSWER)
    name = record.options.model
    if model_id is None and Path(name).exists():
        raise DataError(f"the model was loaded from the file or directory {name}", "pass its id on the hub: --model-id")
    is_generated = record.facts.frame != "given" and record.options.answers is None and not is_log(record.options.data)
    probabilities: dict[str, float] = {}
    source = ""
    if run.is_done(MAP):
        probe_map = run.read_current_map()
        (best,) = probe_map.best()
        source = f"a linear probe of layer {best.layer} at {best.position}, cross-validated"
        probabilities = _probabilities(probe_map)
    exported = [
        ExportedAnswer(
            example=example,
            answer=answer,
            correct=judgement.verdict.correct,
            span=judgement.span,
            p_correct=probabilities.get(example.id),
        )
        for example, answer, judgement in zip(graded.task.examples, graded.answers, graded.judgements, strict=True)
        if judgement.verdict.correct is not None
    ]
    paths = WRITERS[log_format](
        ExportedRun(
            name=graded.task.name,
            model_id=model_id or name,
            source=graded.task.source,
            created=datetime.fromisoformat(record.facts.date or _FIRST_DATE).timestamp(),
            temperature=record.options.temperature if is_generated else None,
            max_new_tokens=graded.task.max_new_tokens if is_generated else None,
            version=version("probemap"),
            p_correct_source=source,
            answers=exported,
        ),
        out,
    )
    return *paths, len(graded.ids) - len(exported)


def _probabilities(probe_map: ProbeMap) -> dict[str, float]:
    """Return the probability that each answer is correct, for the answers that the best cell scores."""
    from sklearn.linear_model import LogisticRegression

    (best,) = probe_map.best()
    data = probe_map.data
    scores = data["scores"].sel(layer=best.layer, position=best.position).mean("repeat").values.astype(np.float64)
    scored = np.isfinite(scores)
    features, correct = scores[scored, None], data["correct"].values[scored].astype(bool)
    # Platt scaling needs no penalty, because it has only two parameters.
    curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(features, correct)
    probabilities = curve.predict_proba(features)[:, 1].tolist()
    return dict(zip(map(str, data["answer"].values[scored]), probabilities, strict=True))
