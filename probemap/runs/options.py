"""Options of each step."""

from dataclasses import dataclass
from typing import Literal

from probemap.models.loading import Endpoint

DEMO_DATA, DEMO_MODEL, DEMO_N = "cities", "smollm2-135m", 500


@dataclass(frozen=True)
class Capturing:
    """Options of the capture step."""

    positions: str | None = None
    """As for `positions.parse_positions`; None takes DEFAULT_POSITIONS."""
    batch_size: int = 32
    store_dtype: str = "float32"
    site: str = "resid"
    """Where in each block, see `hooks.find_hook_points`."""
    batch_tokens: int | None = None
    """Tokens per batch, padding included; None: no limit but `batch_size`."""
    store: str | None = None
    """A URL of any file system that fsspec knows, below which the states go; None: the run folder."""
    layers: str | None = None
    """Which, as for `hooks.parse_layers`; None: all."""
    shard_bytes: int | None = None
    """About how large a shard is: what is captured, and lost, as a whole.  None: `activations.SHARD_BYTES`."""


@dataclass(frozen=True)
class Answering:
    """Options of the answer step."""

    n: int | None = None
    seed: int = 0
    prompt: str | None = None
    """Replaces the task's prompt template."""
    frame: Literal["auto", "chat", "qa", "none"] = "auto"
    max_new_tokens: int | None = None
    """None: as the task says."""
    batch_size: int = 32
    temperature: float = 0.0
    batch_tokens: int | None = None
    """Tokens per batch, padding included; None: no limit but `batch_size`."""
    answers: str | None = None
    """A file of answers that exist already, see `tasks.supplied.read_text_answers`; None: they are made."""
    endpoint: Endpoint | None = None
    """The server that answers; None: the model here."""
    during: Capturing | None = None
    """What of the states is taken along, see `during`; None: nothing."""


LocatorName = Literal["auto", "names", "numbers", "choices", "model", "none", "paper"]


@dataclass(frozen=True)
class Judging:
    """Options of the judge step."""

    locator: LocatorName = "auto"
    """How the exact answer is found.  ``auto`` follows the task: its closed set, its numbers, its letters, or for open
    questions a model is asked to copy the exact answer out of question and text.  ``paper`` makes the place depend on
    the verdict and is for comparison only, see `locate.paper_locator`; where it has no say it is ``auto``."""
    judge: Literal["rules", "model"] = "rules"
    """Who says right or wrong; see `judge` and `assess`."""
    endpoint: Endpoint | None = None
    """The server whose model is asked; None: the model that answered."""
    decided: str | None = None
    """A file of verdicts and exact answers that a person has decided, see `tasks.supplied.read_manual_labels`."""


@dataclass(frozen=True)
class Probing:
    """Options of the map step."""

    folds: int = 5
    repeats: int = 1
    c: str = "1"
    """A number, several with commas, or ``auto``."""
    permutations: int = 0
    common_rows: bool = False
    baselines: bool = True
    seed: int = 0
    device: str = "auto"
    protocol: Literal["probemap", "paper"] = "probemap"
    """``paper``: as the research code does it, see `paper`; of the other options only the seed counts."""


@dataclass(frozen=True)
class Resampling:
    """Options of the resample step."""

    k: int = 30
    """How often each question is asked."""
    temperature: float = 1.0
    seed: int = 0
    batch_size: int = 32
    batch_tokens: int | None = None
    """Tokens per batch, padding included; None: no limit but `batch_size`."""


@dataclass(frozen=True)
class Studying:
    """Options of the steps that fit probes of their own: errors and choose."""

    folds: int = 5
    c: str = "1"
    """As for `Probing`."""
    seed: int = 0
    batch_size: int = 32

    @property
    def recorded(self) -> dict[str, int | str]:
        """What decides the result; the batches' size does not."""
        return {"folds": self.folds, "c": self.c, "seed": self.seed}
