"""Work split between processes that need not know of each other: which share is this one's?"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from probemap.records import RunError


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`, counted from 1."""

    number: int
    count: int

    def of(self, shards: list[int]) -> list[int]:
        """This share's shards: every `count`-th, so that shares differ by one shard at most."""
        return [k for k in shards if k % self.count == self.number - 1]


def parse_share(text: str, environment: Mapping[str, str] = os.environ) -> Share:
    """Read ``2/8``; ``auto`` asks the launcher: a SLURM array's or torchrun's variables.

    Raises
    ------
    RunError: neither, or a number that is out of range.
    """
    if text == "auto":
        return _launched(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RunError(f"the shard {text!r} is none", "write i/n with i from 1 to n, as 2/8, or auto")
    return Share(int(match[1]), int(match[2]))


def _launched(environment: Mapping[str, str]) -> Share:
    def number(name: str, default: int = 0) -> int:
        return int(environment.get(name, default))

    if "SLURM_ARRAY_TASK_ID" in environment:
        step = number("SLURM_ARRAY_TASK_STEP", 1)
        first = number("SLURM_ARRAY_TASK_MIN")
        return Share((number("SLURM_ARRAY_TASK_ID") - first) // step + 1, number("SLURM_ARRAY_TASK_COUNT", 1))
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return Share(number("RANK") + 1, number("WORLD_SIZE"))
    raise RunError("no launcher says which shard this is", "start it from a SLURM array or torchrun, or write i/n")
