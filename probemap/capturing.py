"""The capture step on a run folder: by one process, in shares by many, and again where shards are broken."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probemap.contents import check_states, check_weights, loader_of, read_answers, states_of
from probemap.crew import crew
from probemap.options import SILENT, Capturing, Loader, Models, Ray, Talk
from probemap.positions import DEFAULT_POSITIONS, Indices, digest, parse_positions, token_indices
from probemap.records import Answer, RunError, StoreError
from probemap.run import Run, again
from probemap.shares import Share
from probemap.sites import module_path

if TYPE_CHECKING:  # torch and transformers load in seconds; only the steps that need them pay
    from probemap.activations import ActivationStore, Layout
    from probemap.capture import Reader
    from probemap.model import Model

_WAIT = 600.0  # seconds, for the others of many processes, each of which holds the folder for a moment


def capture(
    run: Run,
    options: Capturing = Capturing(),
    *,
    share: Share | None = None,
    ray: Ray | None = None,
    loader: Loader | None = None,
    redo: bool = False,
    talk: Talk = SILENT,
    models: Models | None = None,
) -> None:
    """Hidden states at the named positions; writes ``activations/``.

    Parameters
    ----------
    share: capture these shards alone; other processes, on this machine or another, capture the rest at the same time.
        Whoever is last marks the step as done.
    ray: the workers that share the shards; None: all is done here.
    loader: of the model; None is the one that answered.
    """
    module_path(options.site)  # a name that is none is refused before anything is set aside
    if share is not None and redo:
        raise RunError(
            "--redo would set aside what other shards have made", "redo without --shard, or use a new folder"
        )
    if share is not None and ray is not None:
        raise RunError("--shard splits the work, and so does --engine ray", "give one of them")
    loader = loader or loader_of(run)
    with run.locked(0 if share is None else _WAIT):
        job = _capture_job(run, options)
        wanted: dict[str, Any] = {
            "options": {
                "positions": list(job.positions),
                "batch_size": options.batch_size,
                "batch_tokens": options.batch_tokens,
                "store_dtype": options.store_dtype,
                "site": options.site,
                "dtype": run.step("answer")["facts"]["dtype"] if loader.dtype == "auto" else loader.dtype,
                "store": options.store,
                "layers": options.layers,
            },
            "inputs": {"the probed tokens": digest(job.answers, job.indices)},
        }
        # Workers elsewhere load a model of their own, and have nobody to talk to.
        mine = ({}, SILENT) if ray else ({} if models is None else models, talk)
        same = wanted["options"]["dtype"] == run.step("answer")["facts"]["dtype"]
        make = partial(_shards_of, loader, job, options, run, same, *mine)
        if share is None:
            with run.making("capture", **wanted, redo=redo, tell=talk.tell) as needed:
                if needed:
                    _fill(run, make, options, ray, None, talk)
                    shutil.rmtree(run.during, ignore_errors=True)  # all that it held is in the store
            return
        if not run.begin("capture", **wanted, redo=False, tell=talk.tell):
            return
    started = time.monotonic()
    store = _fill(run, make, options, None, share, talk)
    if not store.missing_shards():
        with run.locked(_WAIT):
            run.finish("capture", time.monotonic() - started)


@dataclass(frozen=True)
class _Job:
    """What is captured."""

    answers: list[Answer]
    positions: tuple[str, ...]
    indices: Indices


def _capture_job(run: Run, options: Capturing) -> _Job:
    _, answers, judgements = read_answers(run)
    positions = DEFAULT_POSITIONS if options.positions is None else parse_positions(options.positions)
    return _Job(answers, positions, token_indices(answers, [j.span for j in judgements], positions))


@dataclass(frozen=True)
class _Plan:
    """Whose states are captured, and how they are laid out."""

    label: str
    revision: str
    dtype: str
    layout: "Layout"


@dataclass(frozen=True)
class _Shards:
    """Captures shards of states; a `crew.Worker` whose pieces are shards."""

    model: "Model"
    job: _Job
    options: Capturing
    folder: Path
    during: Path | None
    """Of states that were taken while this very model answered."""
    talk: Talk

    def plan(self) -> _Plan:
        return _Plan(self.model.label, self.model.revision, self.model.dtype, self._reader.layout)

    def each(self, shards: Sequence[int]) -> Iterator[int]:
        """The shards' numbers, each when it is committed."""
        from probemap.activations import ActivationStore
        from probemap.capture import fill

        layout = self._reader.layout
        store = ActivationStore.create(self.folder, layout, self.options.store)
        done = layout.n - sum(map(layout.size, shards))

        def read(inside: int, _: int) -> None:
            self.talk.progress("hidden states", done + inside, layout.n)

        for shard in shards:
            fill(store, self._reader, [shard], read)
            done += layout.size(shard)
            yield shard

    @cached_property
    def _reader(self) -> "Reader":
        from probemap.capture import Reader, layout_for
        from probemap.during import Remembered

        job, options = self.job, self.options
        layout = layout_for(
            self.model,
            job.answers,
            job.indices,
            job.positions,
            options.store_dtype,
            options.site,
            options.shard_bytes,
            options.layers,
        )
        sizes = options.batch_size, options.batch_tokens
        if self.during is not None and self.during.exists():
            return Remembered(
                self.model, job.answers, job.indices, layout, *sizes, tell=self.talk.tell, folder=self.during
            )
        return Reader(self.model, job.answers, job.indices, layout, *sizes, self.talk.tell)


def _shards_of(
    loader: Loader, job: _Job, options: Capturing, run: Run, same: bool, models: Models, talk: Talk
) -> _Shards:
    during = run.during if same else None
    return _Shards(loader.load(models), job, options, run.path / "activations", during, talk)


def _fill(
    run: Run, make: Callable[[], _Shards], options: Capturing, ray: Ray | None, share: Share | None, talk: Talk
) -> "ActivationStore":
    from probemap.activations import ActivationStore

    with crew(make, ray) as workers:
        plan = workers.plan()
        check_weights(run, plan, ("revision",))
        layout = plan.layout
        store = ActivationStore.create(run.path / "activations", layout, options.store)
        missing = store.missing_shards()
        if begun := layout.n_shards - len(missing):
            talk.tell(f"{begun} of {layout.n_shards} shards of states are there already")
        mine = missing if share is None else share.of(missing)
        done = layout.n - sum(map(layout.size, mine))
        for shard in workers.each(mine):
            done += layout.size(shard)
            talk.progress("hidden states", done, layout.n)
    if lost := set(mine) & set(store.missing_shards()):
        raise RunError(
            f"workers captured {len(lost)} shards that are not in {store.place}",
            "they see another disk: put the run folder where all machines see it, or the states below a --store URL",
        )
    return store


def import_states(
    run: Run,
    folder: Path,
    ids: Sequence[int],
    *,
    positions: str | None = None,
    redo: bool = False,
    talk: Talk = SILENT,
) -> None:
    """Take hidden states that vLLM extracted, instead of capturing them; writes ``activations/``.

    Parameters
    ----------
    folder: of vLLM's safetensors files, one per answer, matched by their tokens.
    ids: vLLM's ``eagle_aux_hidden_state_layer_ids``, in its order.

    Raises
    ------
    StoreError: files that are missing or damaged, or other layers.
    """
    from probemap.activations import ActivationStore
    from probemap.vllm_states import fill, layout_of, read_folder

    with run.locked():
        job = _capture_job(run, Capturing(positions))
        with run.making(
            "capture",
            options={"positions": list(job.positions), "vllm": str(folder), "vllm_layers": list(ids)},
            inputs={"the probed tokens": digest(job.answers, job.indices)},
            redo=redo,
            tell=talk.tell,
        ) as needed:
            if not needed:
                return
            found = read_folder(folder)
            layout = layout_of(found, ids, job.answers, job.indices, job.positions)
            store = ActivationStore.create(run.path / "activations", layout)
            lacking = fill(
                store,
                found,
                job.answers,
                job.indices,
                lambda done, total: talk.progress("hidden states", done, total),
            )
            if lacking:
                talk.tell(
                    f"{lacking} probed tokens lie behind what vLLM wrote (it leaves out the last token): "
                    "their positions are missing"
                )


def verify(run: Run, *, repair: bool = False, device: str = "auto", talk: Talk = SILENT) -> dict[int, str]:
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
    from probemap.activations import ActivationStore

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
            made["site"],
            made["batch_tokens"],
            made["store"],
            made.get("layers"),
        )
        job = _capture_job(run, options)
        check_states(run, store, job.answers, job.indices)
        model = loader_of(run, device, made["dtype"]).load({})
        check_weights(run, model, ("revision",))
        for shard, what in found.items():
            if what != "missing":
                store.set_aside(shard)
        from probemap.capture import Reader, fill

        reader = Reader(
            model, job.answers, job.indices, store.layout, options.batch_size, options.batch_tokens, talk.tell
        )
        fill(store, reader, progress=lambda done, total: talk.progress("hidden states", done, total))
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


def check(run: Run, *, n: int = 16, seed: int = 0, device: str = "auto", talk: Talk = SILENT) -> Parity:
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

    from probemap.capture import hidden_states

    _, answers, judgements = read_answers(run)
    store = states_of(run, answers, judgements)
    indices = token_indices(answers, [j.span for j in judgements], store.layout.positions)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(answers))[:n])
    model = loader_of(run, device, "float32").load({})
    check_weights(run, model, ("revision",))
    alone = []
    numbers = store.layout.layer_numbers
    for done, i in enumerate(drawn.tolist(), start=1):
        alone.append(hidden_states(model, [answers[i]], indices[[i]], store.layout.site, layers=numbers)[0])
        talk.progress("answers", done, len(drawn))
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
