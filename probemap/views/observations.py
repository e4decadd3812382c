"""Observations about maps: sentences with the numbers on which they are based."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

TRAILING = re.compile(r"-\d+")
"""Pattern of the names of trailing tokens: ``-1``, ``-2``, …."""


@dataclass(frozen=True)
class Observation:
    """One observation about a map."""

    about: str
    """Topic: ``protocol``, ``nothing``, ``chance``, ``onset``, ``peak``, ``positions``, ``layers``, ``few``,
    ``baselines``, ``added`` or ``control``."""
    text: str
    """One or more sentences that state the observation, including its numbers."""


def position_names(positions: Sequence[str] | npt.NDArray[np.str_]) -> str:
    """Join names as ``a, b and c``; three or more consecutive trailing tokens are joined as ``-8 to -5``."""
    names: list[str] = []
    for _, run in groupby(enumerate(positions), key=lambda pair: _run_key(str(pair[1]), pair[0])):
        members = [str(name) for _, name in run]
        names += [f"{members[0]} to {members[-1]}"] if len(members) > 2 else members
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _run_key(name: str, index: int) -> int | str:
    """Return a grouping key: consecutive trailing tokens share one key, and any other position is keyed by its name."""
    return int(name) - index if TRAILING.fullmatch(name) else name
