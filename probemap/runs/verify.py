"""Is what was captured still right?  Bit by bit, and against a pass of its own."""

from dataclasses import dataclass

from probemap.logger import SILENT, Logger
from probemap.positions import token_indices
from probemap.records import RunError, StoreError
from probemap.runs.folder import again
from probemap.runs.integrity import check_states, check_weights, loader_of, read_answers, states_of
from probemap.runs.options import Capturing
from probemap.runs.run import Run
from probemap.runs.steps.capture import capture_job


def verify(run: Run, *, repair: bool = False, device: str = "auto", logger: Logger = SILENT) -> dict[int, str]:
    """Are the captured states what was committed, bit by bit?

    Parameters
    ----------
    repair: set broken shards aside and capture them again, and nothing else.

    Returns
    -------
    The shards that are not, and why, as `ActivationStore.faults`; before the repair.

    Raises
    ------
    StoreError: what describes the whole store has changed.
    RunError: answers or exact answers are not those that were captured.
    """
    from probemap.activations.store import ActivationStore

    with run.locked():
        store = ActivationStore.open(run.path / "activations")
        found = store.faults()
        if not repair or not found:
            return found
        made = run.step("capture")["options"]
        if "vllm" in made:
            raise RunError("these states came from vLLM's files", "import them again with --redo")
        options = Capturing(
            ",".join(made["positions"]),
            made["batch_size"],
            made["store_dtype"],
            made.get("site", "resid"),
            made.get("batch_tokens"),
            made.get("store"),
            made.get("layers"),
        )
        job = capture_job(run, options)
        check_states(run, store, job.answers, job.indices)
        model = loader_of(run, device, made["dtype"]).load({})
        check_weights(run, model, ("revision",))
        for shard, what in found.items():
            if what != "missing":
                store.set_aside(shard)
        from probemap.activations.reader import Reader, fill_store

        reader = Reader(
            model=model,
            answers=job.answers,
            indices=job.indices,
            layout=store.layout,
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            log=logger.log,
        )
        list(fill_store(store, reader, progress=lambda done, total: logger.progress("hidden states", done, total)))
        return found


@dataclass(frozen=True)
class Parity:
    """How far captured states are from those of a pass of their own, in float32, one answer at a time."""

    n: int
    """Answers that were compared."""
    largest: float
    """The largest distance of two states, relative to the norm of the one that was computed alone."""
    typical: float
    """The median of these distances."""
    answer: str
    """Where the largest is, with `layer` and `position`."""
    layer: int
    position: str


def check(run: Run, *, n: int = 16, seed: int = 0, device: str = "auto", logger: Logger = SILENT) -> Parity:
    """Capture a few answers once more, each alone and in float32, and compare.

    What differs is rounding: of padding and batching, of a smaller dtype of the weights or of the store.  A distance
    near 1 is an error.

    Parameters
    ----------
    n: answers, drawn by `seed`.

    Raises
    ------
    RunError, StoreError: there are no captured states, or they belong to other answers.
    """
    import numpy as np

    from probemap.activations.forward import hidden_states

    _, answers, judgements = read_answers(run)
    store = states_of(run, answers, judgements)
    indices = token_indices(answers, [j.span for j in judgements], store.layout.positions)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(answers))[:n])
    if (indices[drawn] < 0).all():
        raise RunError(
            f"none of the {len(drawn)} answers drawn has a token at {', '.join(store.layout.positions)}",
            "draw more of them: --n",
        )
    model = loader_of(run, device, "float32").load({})
    check_weights(run, model, ("revision",))
    alone = []
    numbers = store.layout.layer_numbers
    for done, i in enumerate(drawn.tolist(), start=1):
        alone.append(hidden_states(model, [answers[i]], indices[[i]], store.layout.site, layers=numbers)[0])
        logger.progress("answers", done, len(drawn))
    there = np.stack([store.read_layer(layer)[drawn] for layer in numbers], axis=1)
    expected = np.stack(alone)
    distance = np.linalg.norm(there - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    if (np.isnan(expected) & ~np.isnan(there)).any():
        raise StoreError(
            "there are states at positions that the answers do not have",
            f"{again('capture', run.path)} makes them again",
        )
    row, layer, column = np.unravel_index(int(np.nanargmax(distance)), distance.shape)
    return Parity(
        len(drawn),
        float(np.nanmax(distance)),
        float(np.nanmedian(distance)),
        answers[int(drawn[row])].id,
        store.layout.layer_numbers[int(layer)],
        store.layout.positions[int(column)],
    )
