"""The capture step: capture hidden states in one or several processes, or import them from files written by vLLM."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.records import Answer, RunError
from probemap.runs.definitions import ANSWER
from probemap.runs.plan import Context, Plan

if TYPE_CHECKING:  # torch and transformers take seconds to import and are needed only for execution
    from probemap.activations.layout import Layout
    from probemap.activations.reader import Reader
    from probemap.models.engine import Engine
    from probemap.models.loading import Loader
    from probemap.positions import Indices
    from probemap.runs.options import CaptureOptions
    from probemap.runs.run import Run


def plan(run: Run, options: CaptureOptions, context: Context) -> Plan[CaptureOptions]:
    """Plan the capture step, which writes ``activations/``.

    Raises
    ------
    DataError, ModelError, RunError
        If a position is unknown, if the syntax of the site is invalid, if there are no verdicts, or if mutually
        exclusive options are given.
    """
    from probemap.models.hooks import resolve_site
    from probemap.positions import digest

    resolve_site(options.site)  # rejects an invalid site before any results are moved
    if context.shard is not None and context.pool is not None:
        raise RunError("--shard and --engine ray both split the work", "use only one of them")
    job = capture_job(run, options)
    if options.vllm is None:
        answer = run.record(ANSWER)
        options = replace(options, dtype=options.dtype or answer.facts.dtype)
        if options.layers is None and options.site == "resid":  # the layers that a vLLM server has extracted
            options = replace(options, layers=answer.options.extracted_layers)
    options = replace(options, positions=",".join(job.positions))
    inputs = {"the probed tokens": digest(job.answers, job.indices)}
    if options.vllm is not None:
        return Plan(options=options, inputs=inputs, execute=partial(_import_vllm, run, job, options, context))
    if context.pool is not None:  # workers on other machines may not have access to the file
        job = replace(job, answers=list(job.answers))
    return Plan(options=options, inputs=inputs, execute=partial(_execute, run, job, options, context))


@dataclass(frozen=True)
class CaptureJob:
    """The answers whose states are captured, and the tokens to probe."""

    answers: Sequence[Answer]
    positions: tuple[str, ...]
    indices: Indices


def capture_job(run: Run, options: CaptureOptions) -> CaptureJob:
    """Return a run's answers, and the token indices of the selected positions."""
    from probemap.positions import parse_positions

    graded = run.graded
    positions = parse_positions(options.positions)
    return CaptureJob(graded.answers, positions, graded.token_indices(positions))


def _execute(run: Run, job: CaptureJob, options: CaptureOptions, context: Context) -> bool:
    from probemap.activations.inline import covers_layout
    from probemap.activations.store import ActivationStore
    from probemap.workers import worker_pool

    loader = run.loader(context.device, options.dtype, context.max_memory)
    make = partial(_make_worker, loader, job, options, run.path / "activations", run.inline_states, context.for_workers)
    log = context.logger.log
    with worker_pool(make, context.pool) as workers:
        plan = workers.plan()
        run.check_weights(plan, ("revision",))
        layout = plan.layout
        store = ActivationStore.create(run.path / "activations", layout, options.store)
        missing = store.missing_shards()
        if n_existing := layout.n_shards - len(missing):
            log(f"{n_existing} of {layout.n_shards} shards of states already exist")
        shards = missing if context.shard is None else context.shard.of(missing)
        n_done = layout.n - sum(map(layout.size, shards))
        for shard in workers.each(shards):
            n_done += layout.size(shard)
            if context.pool is not None:  # a local worker reports its progress itself
                context.logger.progress("hidden states", n_done, layout.n)
    missing = store.missing_shards()
    if lost := set(shards) & set(missing):
        raise RunError(
            f"the workers captured {len(lost)} shards that are not in {store.storage}",
            "put the run directory on a file system that all workers share, or pass a URL with --store",
        )
    if not missing and run.inline_states.exists() and covers_layout(run.inline_states, store.layout):
        shutil.rmtree(run.inline_states)  # these states are now in the store
    return not missing


@dataclass(frozen=True)
class _WorkerPlan:
    """The model that a worker has loaded, and the layout of the states that it captures."""

    label: str
    revision: str
    dtype: str
    layout: Layout


@dataclass(frozen=True)
class _CaptureWorker:
    """A `workers.Worker` that captures shards of states."""

    engine: Engine
    job: CaptureJob
    options: CaptureOptions
    directory: Path
    inline_states: Path
    context: Context

    def plan(self) -> _WorkerPlan:
        model = self.engine.model
        return _WorkerPlan(model.label, model.revision, model.dtype, self._reader.layout)

    def each(self, shards: Sequence[int]) -> Iterator[int]:
        """Yield the number of each shard once the shard has been committed."""
        from probemap.activations.reader import fill_store
        from probemap.activations.store import ActivationStore

        layout = self._reader.layout
        store = ActivationStore.create(self.directory, layout, self.options.store)
        n_existing = layout.n - sum(map(layout.size, shards))

        def progress(done: int, total: int) -> None:
            self.context.logger.progress("hidden states", n_existing + done, layout.n)

        return fill_store(store, self._reader, shards, progress)

    @cached_property
    def _reader(self) -> Reader:
        from probemap.activations.inline import CachedReader
        from probemap.activations.reader import Reader, layout_for

        job, options, log = self.job, self.options, self.context.logger.log
        layout = layout_for(
            self.engine,
            job.answers,
            job.indices,
            job.positions,
            site=options.site,
            layers=options.layers,
            store_dtype=options.store_dtype,
            shard_bytes=options.shard_bytes,
        )
        make = partial(CachedReader, folder=self.inline_states) if self.inline_states.exists() else Reader
        return make(
            engine=self.engine,
            answers=job.answers,
            indices=job.indices,
            layout=layout,
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            log=log,
        )


def _make_worker(
    loader: Loader, job: CaptureJob, options: CaptureOptions, directory: Path, inline_states: Path, context: Context
) -> _CaptureWorker:
    return _CaptureWorker(context.open_engine(loader), job, options, directory, inline_states, context)


def _import_vllm(run: Run, job: CaptureJob, options: CaptureOptions, context: Context) -> bool:
    from probemap.activations.imported import extracted_layout, fill_from_extracted, read_extracted
    from probemap.activations.store import ActivationStore
    from probemap.models.endpoint import parse_server_layers

    extracted = read_extracted(Path(str(options.vllm)))
    server_layers = parse_server_layers(str(options.server_layers))
    layout = extracted_layout(extracted, server_layers, job.answers, job.indices, job.positions)
    store = ActivationStore.create(run.path / "activations", layout)
    n_missing = fill_from_extracted(
        store,
        extracted,
        job.answers,
        job.indices,
        lambda done, total: context.logger.progress("hidden states", done, total),
    )
    if n_missing:
        context.logger.log(
            f"{n_missing} probed tokens are not in vLLM's files, which omit the last token; they are treated as missing"
        )
    return True


def recapture(run: Run, context: Context = Context()) -> dict[int, str]:
    """Capture a run's damaged shards again, and return a mapping from shard numbers to defects.

    Raises
    ------
    StoreError
        If the store's metadata has changed.
    RunError
        If the answers or exact answers have changed since the capture, or if the states were imported from vLLM.
    """
    from probemap.activations.reader import Reader, fill_store
    from probemap.activations.store import ActivationStore
    from probemap.runs.definitions import CAPTURE

    with run.locked():
        store = ActivationStore.open(run.path / "activations")
        faults = store.faults()
        if not faults:
            return {}
        options = run.record(CAPTURE).options
        if options.vllm is not None:
            raise RunError("the states were imported from vLLM's files", "import them again with --redo")
        job = capture_job(run, options)
        run.check_states(store, job.answers, job.indices)
        engine = context.open_engine(run.loader(context.device, options.dtype, context.max_memory))
        run.check_weights(engine.model, ("revision",))
        for shard, fault in faults.items():
            if fault != "missing":
                store.set_aside(shard)
        reader = Reader(
            engine=engine,
            answers=job.answers,
            indices=job.indices,
            layout=store.layout,
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            log=context.logger.log,
        )
        for _ in fill_store(
            store, reader, progress=lambda done, total: context.logger.progress("hidden states", done, total)
        ):
            pass
        return faults
