"""Compute input hashes and write result tables for the studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from probemap.records import RunError
from probemap.runs.definitions import AUDIT, Step
from probemap.runs.folder import step_command

if TYPE_CHECKING:  # torch takes seconds to import and is needed only to execute a study
    from probemap.activations.store import ActivationStore
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.run import Run
    from probemap.tables import Table


def study_inputs(run: Run, store: ActivationStore) -> dict[str, str]:
    """Return the input hashes for a study that uses samples and fits probes to states."""
    hashes = run.input_hashes("task.json", "verdicts.jsonl", "resamples.jsonl")
    return {**hashes, "activations": store.content_hash()}


def read_nested_map(run: Run) -> ProbeMap:
    """Return the current map of a run after checking that it is valid evidence for a study that selects cells.

    Raises
    ------
    RunError, StoreError
        If there is no map, if verdicts or states have changed since it was computed, if the exact answers were located
        by `paper_locator`, or if the map was fitted without nested cross-validation.
    """
    run.refuse_paper_locator()
    probe_map = run.read_current_map()
    if not probe_map.has_nested:
        raise RunError(
            f"the map of {run.path} was fitted without nested cross-validation",
            f"fit it again with `probemap map {run.path} --protocol probemap --folds 5 --redo`",
        )
    return probe_map


def write_table(run: Run, study: str, table: Table, note: str = "") -> None:
    """Write a result table to ``STUDY.csv`` and ``STUDY.json``, after adding `note` to its summary."""
    if note:
        table = replace(table, words=(*table.words, note))
    run.write(f"{study}.csv", table.to_csv())
    run.write(f"{study}.json", table.to_json())


def read_current_table(run: Run, step: Step[Any, Any], inputs: Mapping[str, str] | None = None) -> Table:
    """Return the result table of a study after checking that its inputs have not changed.

    Parameters
    ----------
    run : Run
    step : Step
        A step that writes a table.
    inputs : mapping of str to str, optional
        The inputs to check, with their recorded hashes.  Default: all inputs of the step.

    Raises
    ------
    RunError, StoreError
        If an input has changed, or if the table or an input cannot be read.
    """
    recorded = run.record(step).inputs if inputs is None else inputs
    if changed := [name for name, content in recorded.items() if _hash(run, name) != content]:
        raise RunError(
            f"{' and '.join(changed)} changed after the study was executed", f"{step_command(step.name, run.path)}"
        )
    return run.read_table(step.name)


def audit_summary(run: Run) -> list[str]:
    """Return the main sentences of the audit, or one that states why they do not apply.

    The list is empty if the run has no audit.
    """
    if not run.is_done(AUDIT):
        return []
    try:
        return list(read_current_table(run, AUDIT).words[:2])
    except RunError as error:
        return [
            f"The audit of the labels refers to earlier files: {error.problem.splitlines()[0]}.  "
            f"{step_command(AUDIT.name, run.path, redo=False)} updates it."
        ]


def _hash(run: Run, name: str) -> str:
    """Return the hash of a file in the run directory, or of the captured states."""
    from probemap.activations.store import ActivationStore

    return ActivationStore.open(run.path / name).content_hash() if name == "activations" else run.sha256(name)
