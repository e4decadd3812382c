"""The store of captured states: one zarr array, one shard per block of answers, one marker per shard.

Layout of the place: ``states`` (n, n_layers, n_positions, d), sharded (B, n_layers, n_positions, d) with inner
chunks (B, 1, 1, d) and a CRC-32C each, so that one cell is read without the rest; ``commits/K.json``, written
after shard K is on disk.  A shard exists if and only if its marker exists; one writer owns one whole shard
(zarr's partial shard writes read and rewrite, and lose data when interrupted).  A store at a URL leaves a pointer,
``where.json``, in the local folder, and lies below the URL in a folder called after its layout: another layout never
meets it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from probemap.activations.storage import LocalStorage, RemoteStorage, StorageBackend
from probemap.records import StoreError

States = npt.NDArray[np.float32]

SHARD_BYTES = 64 * 2**20
"""Aim for shards of this size: large enough for few files, small enough to hold one in memory."""

PADDING = 0.01
"""At most this share of a store is the empty part of its last shard."""

_FLOAT16_LIMIT = 6e4
_AGAIN = "`probemap capture RUN --redo` captures the states again"
_REPAIR = "`probemap verify RUN --repair` captures again what is broken, and nothing else"


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
    layers: tuple[int, ...] = ()
    """The numbers of the layers, if they are not 0 to n_layers - 1."""
    weights: str = ""
    """Of the model, as `model.Model.weights`; empty where they are not known."""

    @property
    def layer_numbers(self) -> list[int]:
        return list(self.layers or range(self.n_layers))

    @property
    def n_shards(self) -> int:
        return -(-self.n // self.shard_rows)

    def rows(self, shard: int) -> slice:
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n))

    def size(self, shard: int) -> int:
        """How many answers a shard holds."""
        return min(self.shard_rows, self.n - shard * self.shard_rows)


def shard_rows_for(
    n: int, n_layers: int, n_positions: int, d: int, itemsize: int, shard_bytes: int | None = None
) -> int:
    """The most answers per shard so that a shard has at most about `shard_bytes` (None: SHARD_BYTES).

    The last shard takes as much room as a full one, so the number is one that leaves at most PADDING of the store
    empty.
    """
    most = max(1, min(n, (shard_bytes or SHARD_BYTES) // (n_layers * n_positions * d * itemsize)))
    return next(rows for rows in range(most, 0, -1) if -n % rows <= PADDING * n)


class ActivationStore:
    """Captured states of n answers, read one cell or one layer at a time.

    NaN in a state means that the answer has no token at that position.
    """

    def __init__(self, storage: StorageBackend, layout: Layout) -> None:
        self.storage = storage
        self.layout = layout

    @classmethod
    def create(cls, path: str | Path, layout: Layout, url: str | None = None) -> "ActivationStore":
        """Make an empty store, or reopen one with this very layout to go on writing.

        Several processes may do so at once, to write different shards.

        Parameters
        ----------
        path: a local folder.
        url: where the states go instead, as fsspec names it (``s3://bucket/folder``); the folder then holds a pointer.

        Raises
        ------
        StoreError: there is a store with another layout, or the URL cannot be written to.
        """
        if layout.dtype not in ("float32", "float16"):
            raise StoreError(f"states are stored as float32 or float16, not {layout.dtype}")
        local = LocalStorage(Path(path))
        description = json.dumps(asdict(layout), indent=1).encode()
        with local.lock():
            if "layout.json" in local.names("") or "where.json" in local.names(""):
                store = cls.open(path)
                if store.layout != layout:
                    raise StoreError(f"{path} holds states of another layout", _AGAIN)
                return store
            storage: StorageBackend = local if url is None else _below(url, description)
            _new_array(storage, layout)
            storage.write("layout.json", description)
            if url is not None:
                local.write("where.json", json.dumps({"url": str(storage)}).encode())
        return cls(storage, layout)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Open a store for reading.

        Raises
        ------
        StoreError: there is none, or its description is damaged.
        """
        storage: StorageBackend = LocalStorage(Path(path))
        try:
            if (Path(path) / "where.json").exists():
                storage = RemoteStorage(json.loads(storage.read("where.json"))["url"])
            fields = json.loads(storage.read("layout.json"))
            lists = {name: tuple(fields.get(name, ())) for name in ("positions", "layers")}
            layout = Layout(**{**fields, **lists})
        except FileNotFoundError:
            raise StoreError(f"{storage} holds no captured states", "`probemap capture RUN` makes them") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{storage}/layout.json is damaged ({error})", _AGAIN) from None
        return cls(storage, layout)

    @cached_property
    def _array(self) -> Any:
        try:
            with self.storage.translated_errors():
                array = zarr.open_array(self.storage.zarr("states"), mode="r+")
                # Else a shard without any state would have no file, and look like a lost one.
                array = array.with_config({"write_empty_chunks": True})
        except StoreError:
            raise
        except Exception as error:  # zarr raises many kinds for one cause: its metadata cannot be read
            raise StoreError(f"{self.storage}/states cannot be opened ({error})", _AGAIN) from None
        expected = (self.layout.n, self.layout.n_layers, len(self.layout.positions), self.layout.d)
        if array.shape != expected:
            raise StoreError(f"{self.storage} has shape {array.shape}, expected {expected}", _AGAIN)
        return array

    def missing_shards(self) -> list[int]:
        """Shards that are not committed yet."""
        there = self.storage.names("commits")
        return [k for k in range(self.layout.n_shards) if _marker(k) not in there]

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
        with self.storage.translated_errors():
            self._array[rows] = states.astype(self.layout.dtype)
        self.storage.persist(_shard(shard))
        marker = {
            "shard": shard,
            "rows": [rows.start, rows.stop],
            "sha256": _sha256(self.storage.read(_shard(shard))),
            "largest": largest,
            "description": self._description(),
            **({"left_out": list(left_out)} if left_out else {}),
        }
        self.storage.write(_marker(shard), json.dumps({**marker, "check": _check(marker)}).encode())

    def read(self, layer: int, position: str) -> States:
        """One cell of all answers: float32 (n, d), NaN rows where the position is missing.

        Raises
        ------
        StoreError: a shard is missing or damaged; the message names it.
        """
        return self._read((slice(None), self._row(layer), self.layout.positions.index(position)))

    def read_layer(self, layer: int) -> States:
        """One layer of all answers: float32 (n, n_positions, d), NaN where a position is missing.

        Raises
        ------
        StoreError: a shard is missing or damaged; the message names it.
        """
        return self._read((slice(None), self._row(layer)))

    def _row(self, layer: int) -> int:
        return self.layout.layer_numbers.index(layer)

    def _read(self, index: tuple[Any, ...]) -> States:
        self._check_whole()
        there = self.storage.names("states")
        for shard in range(self.layout.n_shards):
            # zarr reads a lost file as fill values, silently.
            if _shard(shard) not in there:
                raise StoreError(f"{self.storage}/{_shard(shard)} is lost", _REPAIR)
        try:
            return np.asarray(self._array[index], dtype=np.float32)
        except (ValueError, OSError, RuntimeError, IndexError) as error:
            where = ", ".join(f"{self.storage}/{_shard(k)}" for k in self.faults()) or str(self.storage)
            raise StoreError(f"{where} is damaged ({str(error)[:100]})", _REPAIR) from None

    def _check_whole(self) -> None:
        if missing := self.missing_shards():
            raise StoreError(
                f"{self.storage}: {len(missing)} of {self.layout.n_shards} shards are not there yet",
                "`probemap capture RUN` goes on where it stopped",
            )

    def faults(self) -> dict[int, str]:
        """Shards that are not what was committed, and why: ``missing``, ``lost``, ``changed`` or ``marker changed``.

        Raises
        ------
        StoreError: the descriptions of the whole store, ``layout.json`` or zarr's, have changed.
        """
        found: dict[int, str] = {}
        missing, described = set(self.missing_shards()), self._description()
        told: set[str] = set()
        for shard in range(self.layout.n_shards):
            if shard in missing:
                found[shard] = "missing"
            elif (marker := self._committed(shard)) is None:
                found[shard] = "marker changed"
            else:
                told.add(str(marker["description"]))
                try:
                    if _sha256(self.storage.read(_shard(shard))) != marker["sha256"]:
                        found[shard] = "changed"
                except FileNotFoundError:
                    found[shard] = "lost"
        if told and told != {described}:
            raise StoreError(f"{self.storage}: layout.json or states/zarr.json has changed", _AGAIN)
        return found

    def set_aside(self, shard: int) -> None:
        """Make a shard missing: what there was of it goes to ``aside``, for it to be captured again."""
        taken = len(self.storage.names("aside"))
        for name, what in ((_marker(shard), "json"), (_shard(shard), "shard")):
            self.storage.move(name, f"aside/{shard:05d}-{taken:05d}.{what}")

    def content_hash(self) -> str:
        """SHA-256 over what the store holds, from its markers: what a map was made from.

        Raises
        ------
        StoreError: a marker is missing or damaged.
        """
        self._check_whole()
        digest = hashlib.sha256(json.dumps(asdict(self.layout), sort_keys=True).encode())
        for shard in range(self.layout.n_shards):
            if (marker := self._committed(shard)) is None:
                raise StoreError(f"{self.storage}/{_marker(shard)} is damaged", _REPAIR)
            digest.update(str(marker["sha256"]).encode())
        return digest.hexdigest()

    def _committed(self, shard: int) -> dict[str, Any] | None:
        """A shard's marker, as it was written; None if it is not that any more."""
        content = self.storage.read(_marker(shard))
        try:
            marker: dict[str, Any] = json.loads(content)
            check = marker.pop("check")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        whole = json.dumps({**marker, "check": check}).encode() == content
        return marker if whole and check == _check(marker) else None

    def _description(self) -> str:
        """SHA-256 over what describes all shards."""
        return _sha256(self.storage.read("layout.json") + self.storage.read("states/zarr.json"))


def _below(url: str, description: bytes) -> RemoteStorage:
    """The place of one layout below a URL."""
    return RemoteStorage(f"{url.rstrip('/')}/{_sha256(description)[:16]}")


def _new_array(storage: StorageBackend, layout: Layout) -> None:
    rows, tail = layout.shard_rows, (layout.n_layers, len(layout.positions), layout.d)
    with storage.translated_errors():
        if isinstance(storage, RemoteStorage) and "states/zarr.json" in storage.names("states"):
            return  # begun by another, with this very layout
        zarr.create_array(
            storage.zarr("states"),
            shape=(layout.n, *tail),
            chunks=(rows, 1, 1, layout.d),
            shards=(rows, *tail),
            dtype=layout.dtype,
            fill_value=float("nan"),
            compressors=Crc32cCodec(),
            dimension_names=("answer", "layer", "position", "d"),
            overwrite=isinstance(storage, LocalStorage),
        )
    storage.persist("states/zarr.json")


def _shard(shard: int) -> str:
    return f"states/c/{shard}/0/0/0"


def _marker(shard: int) -> str:
    return f"commits/{shard:05d}.json"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(marker: dict[str, Any]) -> str:
    return _sha256(json.dumps(marker).encode())
