"""The store of captured states: one zarr array, one shard per block of answers, one marker per shard.

Layout of the folder: ``states`` (n, n_layers, n_positions, d), sharded (B, n_layers, n_positions, d) with inner
chunks (B, 1, 1, d) and a CRC-32C each, so that one cell is read without the rest; ``commits/K.json``, written
after shard K is on disk.  A shard exists if and only if its marker exists; one writer owns one whole shard
(zarr's partial shard writes read and rewrite, and lose data when interrupted).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from probemap.records import StoreError

States = npt.NDArray[np.float32]

SHARD_BYTES = 64 * 2**20
"""Aim for shards of this size: large enough for few files, small enough to hold one in memory."""

_FLOAT16_LIMIT = 6e4
_AGAIN = "`probemap capture RUN --redo` captures the states again"


@dataclass(frozen=True)
class Layout:
    """What a store holds; two stores with the same layout and contents are interchangeable."""

    n: int
    """Answers."""
    n_layers: int
    positions: tuple[str, ...]
    d: int
    """Width of a state."""
    site: str
    """What was read at each block, e.g. ``resid``."""
    dtype: str
    """``float32`` or ``float16``, as stored."""
    shard_rows: int
    """Answers per shard."""
    made_from: str
    """SHA-256 over the token ids and indices that the states belong to."""

    @property
    def n_shards(self) -> int:
        return -(-self.n // self.shard_rows)

    def rows(self, shard: int) -> slice:
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n))


def shard_rows_for(n: int, n_layers: int, n_positions: int, d: int, itemsize: int) -> int:
    """Answers per shard so that a shard has about SHARD_BYTES."""
    return max(1, min(n, SHARD_BYTES // (n_layers * n_positions * d * itemsize)))


class ActivationStore:
    """Captured states of n answers, read one cell or one layer at a time.

    NaN in a state means that the answer has no token at that position.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout

    @classmethod
    def create(cls, path: str | Path, layout: Layout) -> "ActivationStore":
        """Make an empty store, or reopen one with this very layout to go on writing.

        Raises
        ------
        StoreError: there is a store with another layout.
        """
        path = Path(path)
        if (path / "layout.json").exists():
            store = cls.open(path)
            if store.layout != layout:
                raise StoreError(f"{path} holds states of another layout", _AGAIN)
            return store
        if layout.dtype not in ("float32", "float16"):
            raise StoreError(f"states are stored as float32 or float16, not {layout.dtype}")
        (path / "commits").mkdir(parents=True, exist_ok=True)
        rows, tail = layout.shard_rows, (layout.n_layers, len(layout.positions), layout.d)
        zarr.create_array(
            str(path / "states"),
            shape=(layout.n, *tail),
            chunks=(rows, 1, 1, layout.d),
            shards=(rows, *tail),
            dtype=layout.dtype,
            fill_value=float("nan"),
            compressors=Crc32cCodec(),
            dimension_names=("answer", "layer", "position", "d"),
            overwrite=True,
        )
        _sync(path / "states" / "zarr.json")
        _write_durably(path / "layout.json", json.dumps(asdict(layout), indent=1).encode())
        return cls(path, layout)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Open a store for reading.

        Raises
        ------
        StoreError: there is none, or its description is damaged.
        """
        path = Path(path)
        try:
            fields = json.loads((path / "layout.json").read_bytes())
            layout = Layout(**{**fields, "positions": tuple(fields["positions"])})
        except FileNotFoundError:
            raise StoreError(f"{path} holds no captured states", "`probemap capture RUN` makes them") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path / 'layout.json'} is damaged ({error})", _AGAIN) from None
        return cls(path, layout)

    @cached_property
    def _array(self) -> Any:
        try:
            array = zarr.open_array(str(self.path / "states"), mode="r+")
        except Exception as error:  # zarr raises many kinds for one cause: its metadata cannot be read
            raise StoreError(f"{self.path / 'states'} cannot be opened ({error})", _AGAIN) from None
        expected = (self.layout.n, self.layout.n_layers, len(self.layout.positions), self.layout.d)
        if array.shape != expected:
            raise StoreError(f"{self.path} has shape {array.shape}, expected {expected}", _AGAIN)
        return array

    def _shard_file(self, shard: int) -> Path:
        return self.path / "states" / "c" / str(shard) / "0" / "0" / "0"

    def _marker(self, shard: int) -> Path:
        return self.path / "commits" / f"{shard:05d}.json"

    def missing_shards(self) -> list[int]:
        """Shards that are not committed yet."""
        return [k for k in range(self.layout.n_shards) if not self._marker(k).exists()]

    def write_shard(self, shard: int, states: States, left_out: Sequence[str] = ()) -> None:
        """Write one whole shard and commit it: data to disk first, then the marker.

        Parameters
        ----------
        states: float32, (rows of the shard, n_layers, n_positions, d); NaN where a position is missing.
        left_out: answers of which there are no states though they have the positions; kept in the marker.

        Raises
        ------
        StoreError: infinite states, or a value that float16 cannot hold when that was asked for.
        """
        rows = self.layout.rows(shard)
        if np.isinf(states).any():
            raise StoreError("a captured state is infinite", "load the model with --dtype float32")
        largest = float(np.nanmax(np.abs(states), initial=0.0))
        if self.layout.dtype == "float16" and largest > _FLOAT16_LIMIT:
            raise StoreError(
                f"float16 holds values up to 65504; a state of {largest:.0f} was captured",
                "capture again with --store-dtype float32",
            )
        self._array[rows] = states.astype(self.layout.dtype)
        file = self._shard_file(shard)
        _sync(file)
        for folder in list(file.parents)[:5]:
            _sync(folder)
        marker = {
            "shard": shard,
            "rows": [rows.start, rows.stop],
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "largest": largest,
            **({"left_out": list(left_out)} if left_out else {}),
        }
        _write_durably(self._marker(shard), json.dumps(marker).encode())

    def read(self, layer: int, position: str) -> States:
        """One cell of all answers: float32 (n, d), NaN rows where the position is missing.

        Raises
        ------
        StoreError: a shard is missing or damaged; the message names it.
        """
        return self._read((slice(None), layer, self.layout.positions.index(position)))

    def read_layer(self, layer: int) -> States:
        """One layer of all answers: float32 (n, n_positions, d), NaN where a position is missing.

        Raises
        ------
        StoreError: a shard is missing or damaged; the message names it.
        """
        return self._read((slice(None), layer))

    def _read(self, index: tuple[Any, ...]) -> States:
        self._check_whole()
        for shard in range(self.layout.n_shards):
            # zarr reads a lost file as fill values, silently.
            if not self._shard_file(shard).is_file():
                raise StoreError(f"{self._shard_file(shard)} is lost", _AGAIN)
        try:
            return np.asarray(self._array[index], dtype=np.float32)
        except (ValueError, OSError, RuntimeError, IndexError) as error:
            damaged = [k for k, sound in self.verify() if not sound]
            where = ", ".join(str(self._shard_file(k)) for k in damaged) or str(self.path)
            raise StoreError(f"{where} is damaged ({str(error)[:100]})", _AGAIN) from None

    def _check_whole(self) -> None:
        if missing := self.missing_shards():
            raise StoreError(
                f"{self.path}: {len(missing)} of {self.layout.n_shards} shards are not there yet",
                "`probemap capture RUN` goes on where it stopped",
            )

    def verify(self) -> Iterator[tuple[int, bool]]:
        """For each shard, whether its marker is there and its file still has the bytes that were committed."""
        for shard in range(self.layout.n_shards):
            try:
                marker = json.loads(self._marker(shard).read_bytes())
                actual = hashlib.sha256(self._shard_file(shard).read_bytes()).hexdigest()
                yield shard, marker["sha256"] == actual
            except (OSError, ValueError, KeyError, TypeError):
                yield shard, False

    def contents(self) -> str:
        """SHA-256 over what the store holds, from its markers: what a map was made from.

        Raises
        ------
        StoreError: a marker is missing or damaged.
        """
        self._check_whole()
        digest = hashlib.sha256(json.dumps(asdict(self.layout), sort_keys=True).encode())
        for shard in range(self.layout.n_shards):
            try:
                digest.update(json.loads(self._marker(shard).read_bytes())["sha256"].encode())
            except (OSError, ValueError, KeyError, TypeError):
                raise StoreError(f"{self._marker(shard)} is missing or damaged", _AGAIN) from None
        return digest.hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to disk: zarr renames atomically but never syncs."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_durably(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    _sync(part)
    part.replace(path)
    _sync(path.parent)
