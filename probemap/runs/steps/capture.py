"""The capture step on a run folder: by one process, in shares by many, by Ray's workers, or from vLLM's files."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probemap.activations.hooks import resolve_site
from probemap.logger import SILENT, Logger
from probemap.models.loading import Loader, Models
from probemap.positions import Indices, digest, parse_positions, token_indices
from probemap.records import Answer, RunError
from probemap.runs.integrity import check_weights, loader_of, read_answers
from probemap.runs.options import Capturing
from probemap.runs.run import Run
from probemap.workers import RayPool, Shard, at_work, worker_pool

if TYPE_CHECKING:  # torch and transformers load in seconds; only the steps that need them pay
    from probemap.activations.layout import Layout
    from probemap.activations.reader import Reader
    from probemap.activations.store import ActivationStore
    from probemap.models.model import Model

_WAIT = 600.0  # seconds, for the others of many processes, each of which holds the folder for a moment


def capture(
    run: Run,
    options: Capturing = Capturing(),
    *,
    share: Shard | None = None,
    ray: RayPool | None = None,
    loader: Loader | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
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
    resolve_site(options.site)  # a name that is none is refused before anything is set aside
    if share is not None and redo:
        raise RunError(
            "--redo would set aside what other shards have made", "redo without --shard, or use a new folder"
        )
    if share is not None and ray is not None:
        raise RunError("--shard splits the work, and so does --engine ray", "give one of them")
    loader = loader or loader_of(run)
    with run.locked(0 if share is None else _WAIT):
        job = capture_job(run, options)
        answered = run.step("answer")["facts"]["dtype"]
        if loader.dtype == "auto" and loader not in (models or {}):
            loader = replace(loader, dtype=answered)  # another device would choose another one
        wanted: dict[str, Any] = {
            "options": {
                "positions": list(job.positions),
                "batch_size": options.batch_size,
                "batch_tokens": options.batch_tokens,
                "store_dtype": options.store_dtype,
                "site": options.site,
                "dtype": answered if loader.dtype == "auto" else loader.dtype,
                "store": options.store,
                "layers": options.layers,
            },
            "inputs": {"the probed tokens": digest(job.answers, job.indices)},
        }
        if ray is not None:  # workers elsewhere need not see the file
            job = replace(job, answers=list(job.answers))
        make = partial(_shards_of, loader, job, options, run, *at_work(ray, models, logger))
        if share is None:
            with run.making("capture", **wanted, redo=redo, log=logger.log) as needed:
                if needed:
                    _drop_what_was_taken(run, _fill(run, make, options, ray, None, logger))
            return
        if not run.begin("capture", **wanted, redo=False, log=logger.log):
            return
    started = time.monotonic()
    store = _fill(run, make, options, None, share, logger)
    if not store.missing_shards():
        with run.locked(_WAIT):
            run.finish("capture", time.monotonic() - started)
            _drop_what_was_taken(run, store)


def _drop_what_was_taken(run: Run, store: "ActivationStore") -> None:
    """States that were taken while the model answered are in the store now, if it holds such states."""
    from probemap.activations.inline import covers_layout

    if run.during.exists() and covers_layout(run.during, store.layout):
        shutil.rmtree(run.during)


@dataclass(frozen=True)
class Job:
    """What is captured."""

    answers: Sequence[Answer]
    positions: tuple[str, ...]
    indices: Indices


def capture_job(run: Run, options: Capturing) -> Job:
    """The run's answers, and which of their tokens are probed."""
    _, answers, judgements = read_answers(run)
    positions = parse_positions(options.positions)
    return Job(answers, positions, token_indices(answers, [j.span for j in judgements], positions))


@dataclass(frozen=True)
class _Plan:
    """Whose states are captured, and how they are laid out."""

    label: str
    revision: str
    dtype: str
    layout: "Layout"


@dataclass(frozen=True)
class _Shards:
    """Captures shards of states; a `worker_pool.Worker` whose pieces are shards."""

    model: "Model"
    job: Job
    options: Capturing
    folder: Path
    during: Path
    """Of states that may have been taken while the model answered."""
    logger: Logger

    def plan(self) -> _Plan:
        return _Plan(self.model.label, self.model.revision, self.model.dtype, self._reader.layout)

    def each(self, shards: Sequence[int]) -> Iterator[int]:
        """The shards' numbers, each when it is committed."""
        from probemap.activations.reader import fill_store
        from probemap.activations.store import ActivationStore

        layout = self._reader.layout
        store = ActivationStore.create(self.folder, layout, self.options.store)
        there = layout.n - sum(map(layout.size, shards))

        def progress(done: int, total: int) -> None:
            self.logger.progress("hidden states", there + done, layout.n)

        return fill_store(store, self._reader, shards, progress)

    @cached_property
    def _reader(self) -> "Reader":
        from probemap.activations.inline import CachedReader
        from probemap.activations.reader import Reader, layout_for

        job, options = self.job, self.options
        layout = layout_for(
            self.model,
            job.answers,
            job.indices,
            job.positions,
            site=options.site,
            layers=options.layers,
            store_dtype=options.store_dtype,
            shard_bytes=options.shard_bytes,
        )
        make = partial(CachedReader, folder=self.during) if self.during.exists() else Reader
        return make(
            model=self.model,
            answers=job.answers,
            indices=job.indices,
            layout=layout,
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            log=self.logger.log,
        )


def _shards_of(loader: Loader, job: Job, options: Capturing, run: Run, models: Models, logger: Logger) -> _Shards:
    return _Shards(loader.load(models), job, options, run.path / "activations", run.during, logger)


def _fill(
    run: Run, make: Callable[[], _Shards], options: Capturing, ray: RayPool | None, share: Shard | None, logger: Logger
) -> "ActivationStore":
    from probemap.activations.store import ActivationStore

    with worker_pool(make, ray) as workers:
        plan = workers.plan()
        check_weights(run, plan, ("revision",))
        layout = plan.layout
        store = ActivationStore.create(run.path / "activations", layout, options.store)
        missing = store.missing_shards()
        if begun := layout.n_shards - len(missing):
            logger.log(f"{begun} of {layout.n_shards} shards of states are there already")
        mine = missing if share is None else share.of(missing)
        done = layout.n - sum(map(layout.size, mine))
        for shard in workers.each(mine):
            done += layout.size(shard)
            if ray is not None:  # one who works here tells by himself
                logger.progress("hidden states", done, layout.n)
    if lost := set(mine) & set(store.missing_shards()):
        raise RunError(
            f"workers captured {len(lost)} shards that are not in {store.storage}",
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
    logger: Logger = SILENT,
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
    from probemap.activations.store import ActivationStore
    from probemap.activations.vllm import extracted_layout, fill_from_extracted, read_extracted

    with run.locked():
        job = capture_job(run, Capturing(positions))
        with run.making(
            "capture",
            options={"positions": list(job.positions), "vllm": str(folder), "vllm_layers": list(ids)},
            inputs={"the probed tokens": digest(job.answers, job.indices)},
            redo=redo,
            log=logger.log,
        ) as needed:
            if not needed:
                return
            found = read_extracted(folder)
            layout = extracted_layout(found, ids, job.answers, job.indices, job.positions)
            store = ActivationStore.create(run.path / "activations", layout)
            lacking = fill_from_extracted(
                store,
                found,
                job.answers,
                job.indices,
                lambda done, total: logger.progress("hidden states", done, total),
            )
            if lacking:
                logger.log(
                    f"{lacking} probed tokens lie behind what vLLM wrote (it leaves out the last token): "
                    "their positions are missing"
                )
