"""Compute input hashes and write result tables for the studies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import and is needed only to execute a study
    from probemap.activations.store import ActivationStore
    from probemap.runs.run import Run
    from probemap.tables import Table


def study_inputs(run: Run, store: ActivationStore) -> dict[str, str]:
    """Return the input hashes for a study that uses samples and fits probes to states."""
    hashes = run.input_hashes("task.json", "verdicts.jsonl", "resamples.jsonl")
    return {**hashes, "activations": store.content_hash()}


def write_table(run: Run, study: str, table: Table, note: str = "") -> None:
    """Write a result table to ``STUDY.csv`` and ``STUDY.json``, after adding `note` to its summary."""
    if note:
        table = replace(table, words=(*table.words, note))
    run.write(f"{study}.csv", table.to_csv())
    run.write(f"{study}.json", table.to_json())
