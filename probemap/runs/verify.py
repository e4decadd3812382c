"""Checks of captured states: every bit against its checksum, and a sample against a fresh capture."""

from dataclasses import dataclass

from probemap.records import RunError, StoreError
from probemap.runs.folder import step_command
from probemap.runs.plan import Context
from probemap.runs.run import Run


def verify(run: Run) -> dict[int, str]:
    """Compare the stored states with their checksums.

    Returns
    -------
    dict of int to str
        The defect of each damaged shard, as for `ActivationStore.faults`; empty if all are intact.

    Raises
    ------
    StoreError
        If the description of the whole store has changed.
    """
    from probemap.activations.store import ActivationStore

    with run.locked():
        return ActivationStore.open(run.path / "activations").faults()


@dataclass(frozen=True)
class Recomputation:
    """Distance between stored states and states that were computed again, one answer at a time, in float32.

    A distance is relative to the norm of the recomputed state.
    """

    n: int
    """Number of answers that were compared."""
    maximum: float
    median: float
    answer: str
    """The answer with the largest distance; `layer` and `position` are its cell."""
    layer: int
    position: str


def recompute(run: Run, *, n: int = 16, seed: int = 0, context: Context = Context()) -> Recomputation:
    """Capture the states of a few answers again, each alone and in float32, and compare.

    Differences are due to rounding: padding, batching, a smaller data type of the weights or of the store.  A distance
    near 1 means that the stored states are wrong.

    Parameters
    ----------
    n : int
        Number of answers, drawn at random.
    seed : int
        Random seed of the draw.

    Raises
    ------
    RunError, StoreError
        If there are no states, they belong to other answers, or no answer drawn has any of the positions.
    """
    import numpy as np

    from probemap.activations.forward import hidden_states

    graded = run.graded
    store = run.states_of(graded)
    layout = store.layout
    indices = graded.token_indices(layout.positions)
    rows = np.sort(np.random.default_rng(seed).permutation(len(graded.answers))[:n])
    if (indices[rows] < 0).all():
        raise RunError(
            f"none of the {len(rows)} answers drawn has a token at {', '.join(layout.positions)}",
            "draw more answers with --recompute",
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
            "the store holds states at positions that the answers do not have",
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
