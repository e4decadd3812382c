"""The context for executing a step, and the plan that a step prepares before it is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic

from probemap.logger import SILENT, Logger
from probemap.runs.definitions import Options

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.engines import EngineName
    from probemap.models.loading import Loader, Models
    from probemap.workers import RayPool, Shard


@dataclass(frozen=True, kw_only=True)
class Context:
    """Resources for executing steps, such as a device or workers.  They do not affect the results.

    Examples
    --------
    A context that prints messages and uses two Ray workers:

    >>> from probemap.workers import RayPool
    >>> import probemap
    >>> context = probemap.Context(logger=probemap.Logger(log=print), pool=RayPool(workers=2))
    >>> context.for_workers.models
    {}
    """

    logger: Logger = SILENT
    models: Models = field(default_factory=dict)
    """Loaded models, which are shared by all steps in this process."""
    device: str = "auto"
    """Device for the model: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` etc., or ``spread`` to use all GPUs."""
    max_memory: str | None = None
    """Maximum memory per GPU if the device is ``spread``, e.g. ``20GiB``."""
    engine: EngineName = "transformers"
    """Library that runs the model."""
    engines: dict[Loader, Engine] = field(default_factory=dict)
    """Engines that have been started, which are shared by all steps in this process."""
    pool: RayPool | None = None
    """Ray workers that share the work.  If None, this process does all of it."""
    shard: Shard | None = None
    """The part of the work that this process does, if other processes do the rest."""

    @property
    def for_workers(self) -> Context:
        """The context to pass to workers.  Ray workers get a copy without loaded models and without a logger."""
        return replace(self, logger=SILENT, models={}, engines={}) if self.pool else self

    def open_engine(self, loader: Loader) -> Engine:
        """Return the engine with the model that a loader describes.  Engines are started once and then kept.

        Raises
        ------
        ModelError
            See `models.engines.open_engine`.
        """
        from probemap.models.engines import open_engine

        return open_engine(self.engine, loader, self.models, self.engines)

    def release(self) -> None:
        """Free the memory of the loaded models, and end all engines."""
        self.models.clear()
        for engine in self.engines.values():
            engine.close()
        self.engines.clear()


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Options]):
    """Plan for executing a step."""

    options: Options
    """The options in effect, with defaults resolved, as stored in ``run.json``."""
    inputs: Mapping[str, str]
    """Mapping from the name of each input to its hash, as stored in ``run.json``."""
    execute: Callable[[], bool]
    """Function that writes the outputs.  It returns False if other processes still have to write their parts."""
