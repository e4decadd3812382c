"""What a step works with, and what it is going to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic

from probemap.logger import SILENT, Logger
from probemap.models.loading import Models
from probemap.runs.definitions import Options
from probemap.workers import RayPool, Shard


@dataclass(frozen=True, kw_only=True)
class Context:
    """Resources of an execution; none of them changes a result.

    Examples
    --------
    Two Ray workers, and messages printed:

    >>> from probemap.workers import RayPool
    >>> import probemap
    >>> context = probemap.Context(logger=probemap.Logger(log=print), pool=RayPool(workers=2))
    >>> context.for_workers.models
    {}
    """

    logger: Logger = SILENT
    models: Models = field(default_factory=dict)
    """Loaded models, shared by the steps of one process."""
    device: str = "auto"
    """Device of the model: auto, cpu, cuda, cuda:1, …, or spread for all GPUs."""
    max_memory: str | None = None
    """Memory per GPU with ``spread``, e.g. ``20GiB``."""
    pool: RayPool | None = None
    """Ray workers that share the work; None: this process."""
    shard: Shard | None = None
    """Part of the work of this process, while other processes do the rest."""

    @property
    def for_workers(self) -> "Context":
        """The context of workers, which load models of their own and do not log."""
        return replace(self, logger=SILENT, models={}) if self.pool else self


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[Options]):
    """One execution of a step."""

    options: Options
    """The options in effect, defaults resolved; recorded."""
    inputs: Mapping[str, str]
    """Hash of each input by name; recorded."""
    execute: Callable[[], bool]
    """Writes the outputs; returns True if they are complete, False if other processes have not finished their part."""
