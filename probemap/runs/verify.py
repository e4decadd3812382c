"""Compare captured states with their checksums or with recomputed states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probemap.records import RunError, StoreError
from probemap.runs.folder import step_command
from probemap.runs.plan import Context

if TYPE_CHECKING:
    from probemap.runs.run import Run


def verify(run: Run) -> dict[int, str]:
    """Compare the stored states with their checksums.

    Returns
    -------
    dict of int to str
        Mapping from the number of each damaged shard to its defect; see `ActivationStore.faults`.

    Raises
    ------
    StoreError
        If the store's metadata has changed.
    """
    from probemap.activations.store import ActivationStore

    with run.locked():
        return ActivationStore.open(run.path / "activations").faults()


@dataclass(frozen=True)
class Recomputation:
    """Distances between stored states and states that were recomputed in float32, one answer at a time.

    The distances are relative to the norms of the recomputed states.
    """

    n: int
    """Number of answers that were compared."""
    maximum: float
    median: float
    answer: str
    """Id of the answer with the largest distance, which occurs at `layer` and `position`."""
    layer: int
    position: str


def recompute(run: Run, *, n: int = 16, seed: int = 0, context: Context = Context()) -> Recomputation:
    """Recompute the states for some answers in float32, one answer at a time, and compare them with the stored states.

    Small distances are caused by rounding, which depends on padding, batching, and the data types of the weights and
    the stored states.  A distance near 1 means that the stored states are wrong.

    Parameters
    ----------
    n : int
        Number of answers to draw at random.
    seed : int
        Random seed for drawing the answers.

    Raises
    ------
    RunError, StoreError
        If no states have been captured, if the states do not match the answers, or if none of the drawn answers has a
        token at any of the positions.
    """
    import numpy as np

    from probemap.models.forward import hidden_states

    graded = run.graded
    store = run.states_of(graded)
    layout = store.layout
    indices = graded.token_indices(layout.positions)
    rows = np.sort(np.random.default_rng(seed).permutation(len(graded.answers))[:n])
    if (indices[rows] < 0).all():
        raise RunError(
            f"none of the {len(rows)} drawn answers has a token at {', '.join(layout.positions)}",
            "draw more answers with a larger --recompute",
        )
    model = run.loader(context.device, "float32", context.max_memory).load(context.models)
    run.check_weights(model, ("revision",))
    layers = layout.layer_numbers
    recomputed = []
    for number, row in enumerate(rows.tolist(), start=1):
        recomputed.append(hidden_states(model, [graded.answers[row]], indices[[row]], layout.site, layers=layers)[0])
        context.logger.progress("answers", number, len(rows))
    expected = np.stack(recomputed)
    stored = np.stack([store.read_layer(layer)[rows] for layer in layers], axis=1)
    distance = np.linalg.norm(stored - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    if (np.isnan(expected) & ~np.isnan(stored)).any():
        raise StoreError(
            "the store contains states at positions that the answers do not have",
            f"{step_command('capture', run.path)} repeats the capture",
        )
    row, layer, column = np.unravel_index(int(np.nanargmax(distance)), distance.shape)
    return Recomputation(
        n=len(rows),
        maximum=float(np.nanmax(distance)),
        median=float(np.nanmedian(distance)),
        answer=graded.ids[int(rows[row])],
        layer=layers[int(layer)],
        position=layout.positions[int(column)],
    )
