"""Store of captured states: a zarr array that is divided into shards of answers, with one marker file per shard.

The zarr array ``states`` has shape (n, n_layers, n_positions, d).  A shard contains the states of B answers, in chunks
of shape (B, 1, 1, d), each with a CRC-32C checksum.  A chunk contains a single cell (one layer and one position), so
one cell can be read without the others.  The file ``input_embeddings/K.safetensors`` contains the mean input embedding
of each answer in shard K; stores of earlier versions, and stores of states from vLLM, do not have it.  The marker
``commits/K.json`` is written when the files of shard K are on disk; a shard without a marker counts as missing.  Each
shard is written completely by one process, because zarr implements a partial write by reading and rewriting the shard,
which could lose data if it were interrupted.

If the store is at a URL, the local directory contains only the file ``where.json``, which points to the URL.  The
states are in a directory below the URL.  The name of this directory is a hash of the layout, so stores with different
layouts cannot overwrite each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import zarr
from zarr.codecs import Crc32cCodec

from probemap.activations.layout import Layout, States
from probemap.activations.storage import LocalStorage, RemoteStorage, StorageBackend
from probemap.records import StoreError

_FLOAT16_LIMIT = 65504  # the maximum of float16
_REDO_HINT = "`probemap capture RUN --redo` captures the states again"
_REPAIR_HINT = "`probemap verify RUN --repair` captures only the damaged shards again"


class ActivationStore:
    """Store that contains the captured states of n answers and reads them one cell or one layer at a time.

    The states are NaN where an answer has no token at a position.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from probemap import ActivationStore
    >>> from probemap.activations.layout import Layout
    >>> layout = Layout(n=2, n_layers=1, positions=("last_q", "-1"), d=4, site="resid", dtype="float32", shard_rows=2,
    ...                 made_from="")
    >>> store = ActivationStore.create(f"{tempfile.mkdtemp()}/activations", layout)
    >>> store.write_shard(0, np.ones((2, 1, 2, 4), np.float32))
    >>> store.read(0, "-1").shape
    (2, 4)
    """

    def __init__(self, storage: StorageBackend, layout: Layout) -> None:
        self.storage = storage
        self.layout = layout

    @classmethod
    def create(cls, path: str | Path, layout: Layout, url: str | None = None) -> ActivationStore:
        """Create an empty store, or open an existing store with the same layout to continue writing.

        Several processes may create the store at the same time and write different shards.

        Parameters
        ----------
        path : str or Path
            Local directory.
        layout : Layout
        url : str, optional
            fsspec URL, such as ``s3://bucket/folder``, to which the states are written.  If a URL is given, the
            local directory contains only a pointer to it.

        Raises
        ------
        StoreError
            If the directory contains a store with a different layout, or if the URL cannot be written to.
        """
        if layout.dtype not in ("float32", "float16"):
            raise StoreError(f"cannot store states as {layout.dtype}, expected float32 or float16")
        local = LocalStorage(Path(path))
        description = json.dumps(asdict(layout), indent=1).encode()
        with local.lock():
            if {"layout.json", "where.json"} & local.names(""):
                store = cls.open(path)
                if store.layout != layout:
                    raise StoreError(
                        f"{path} contains states with a different layout",
                        f"{_REDO_HINT}; in Python, use a different directory",
                    )
                return store
            storage: StorageBackend = local if url is None else _remote_storage(url, description)
            _create_array(storage, layout)
            storage.write("layout.json", description)
            if url is not None:
                local.write("where.json", json.dumps({"url": str(storage)}).encode())
        return cls(storage, layout)

    @classmethod
    def open(cls, path: str | Path) -> ActivationStore:
        """Open a store for reading.

        Raises
        ------
        StoreError
            If the directory contains no store, or if its description (``layout.json``) is damaged.
        """
        storage: StorageBackend = LocalStorage(Path(path))
        try:
            if (Path(path) / "where.json").exists():
                storage = RemoteStorage(json.loads(storage.read("where.json"))["url"])
            fields = json.loads(storage.read("layout.json"))
            tuples = {name: tuple(fields.get(name, ())) for name in ("positions", "layers")}
            layout = Layout(**{**fields, **tuples})
        except FileNotFoundError:
            raise StoreError(f"{storage} contains no captured states", "`probemap capture RUN` captures them") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{storage}/layout.json is damaged ({error})", _REDO_HINT) from None
        return cls(storage, layout)

    @cached_property
    def _array(self) -> Any:
        try:
            with self.storage.translated_errors():
                array = zarr.open_array(self.storage.zarr("states"), mode="r+")
                # By default, zarr writes no file for a shard that is entirely NaN, which would look like a lost shard.
                array = array.with_config({"write_empty_chunks": True})
        except StoreError:
            raise
        except Exception as error:  # zarr raises many exception types for unreadable metadata
            raise StoreError(f"{self.storage}/states cannot be opened ({error})", _REDO_HINT) from None
        if array.shape != self.layout.shape:
            raise StoreError(
                f"the array in {self.storage} has shape {array.shape}, expected {self.layout.shape}", _REDO_HINT
            )
        return array

    def missing_shards(self) -> list[int]:
        """Return the numbers of the shards that have not been committed, in ascending order."""
        markers = self.storage.names("commits")
        return [shard for shard in range(self.layout.n_shards) if _marker_name(shard) not in markers]

    def write_shard(
        self, shard: int, states: States, skipped: Sequence[str] = (), input_embeddings: States | None = None
    ) -> None:
        """Write one complete shard and commit it: first the data, then the marker.

        Parameters
        ----------
        shard : int
        states : ndarray of shape (answers in the shard, n_layers, n_positions, d), float32
            The hidden states, with NaN where a position is missing.
        skipped : sequence of str
            Ids of the answers in the shard that were not captured, e.g. because they did not fit in memory.
        input_embeddings : ndarray of shape (answers in the shard, width of the embeddings), float32, optional
            See `input_embeddings`.  By default, they are not stored.

        Raises
        ------
        StoreError
            If a state is infinite or too large for a float16 store.
        """
        rows = self.layout.rows(shard)
        if np.isinf(states).any():
            raise StoreError("a captured state is infinite", "load the model with --dtype float32")
        largest = float(np.nanmax(np.abs(states), initial=0.0))
        if self.layout.dtype == "float16" and largest > _FLOAT16_LIMIT:
            raise StoreError(
                f"a captured state of magnitude {largest:.0f} is too large for float16, whose maximum is "
                f"{_FLOAT16_LIMIT}",
                "capture again with --store-dtype float32",
            )
        with self.storage.translated_errors():
            self._array[rows] = states.astype(self.layout.dtype)
        self.storage.persist(_shard_name(shard))
        marker = {
            "shard": shard,
            "rows": [rows.start, rows.stop],
            "sha256": _sha256(self.storage.read(_shard_name(shard))),
            "largest": largest,
            "description": self._description_hash(),
            **self._write_input_embeddings(shard, input_embeddings),
            **({"left_out": list(skipped)} if skipped else {}),
        }
        self.storage.write(_marker_name(shard), json.dumps({**marker, "check": _marker_hash(marker)}).encode())

    def read(self, layer: int, position: str) -> States:
        """Read the states of one cell.

        Returns
        -------
        ndarray of shape (n, d), float32
            The hidden states, with a row of NaN for each answer that has no token at the position.

        Raises
        ------
        StoreError
            If a shard is missing or damaged.  The message names the shard.
        """
        return self._read((slice(None), self._index(layer), self.layout.positions.index(position)))

    def read_layer(self, layer: int) -> States:
        """Read the states of one layer.

        Returns
        -------
        ndarray of shape (n, n_positions, d), float32
            The hidden states, with NaN where a position is missing.

        Raises
        ------
        StoreError
            If a shard is missing or damaged.  The message names the shard.
        """
        return self._read((slice(None), self._index(layer)))

    def input_embeddings(self) -> States | None:
        """Read the mean input embedding of each answer's tokens; see `models.input_embeddings`.

        Returns
        -------
        ndarray of shape (n, width of the embeddings), float32, or None
            NaN for answers without tokens.  None if the store does not contain the embeddings of all answers.

        Raises
        ------
        StoreError
            If a shard is missing or damaged.
        """
        self._require_all_shards()
        parts = []
        for shard in range(self.layout.n_shards):
            if not (committed := (self._read_marker(shard) or {}).get("input_embeddings")):
                return None
            try:
                content = self.storage.read(_embeddings_name(shard))
            except FileNotFoundError:
                content = b""
            if _sha256(content) != committed:
                raise StoreError(f"{self.storage}/{_embeddings_name(shard)} is damaged", _REPAIR_HINT)
            parts.append(safetensors.numpy.load(content)["input_embeddings"])
        return np.concatenate(parts)

    def _write_input_embeddings(self, shard: int, input_embeddings: States | None) -> dict[str, str]:
        """Write the input embeddings of a shard, if there are any, and return their entry in its marker."""
        if input_embeddings is None:
            return {}
        # safetensors writes the raw memory of an array and ignores its strides.
        content = safetensors.numpy.save({"input_embeddings": np.ascontiguousarray(input_embeddings)})
        self.storage.write(_embeddings_name(shard), content)
        return {"input_embeddings": _sha256(content)}

    def _index(self, layer: int) -> int:
        return self.layout.layer_numbers.index(layer)

    def _read(self, index: tuple[Any, ...]) -> States:
        self._require_all_shards()
        files = self.storage.names("states")
        for shard in range(self.layout.n_shards):
            # If a file is lost, zarr silently returns fill values.
            if _shard_name(shard) not in files:
                raise StoreError(
                    f"{self.storage}/{_shard_name(shard)} was committed but no longer exists", _REPAIR_HINT
                )
        try:
            return np.asarray(self._array[index], dtype=np.float32)
        except (ValueError, OSError, RuntimeError, IndexError) as error:
            damaged = ", ".join(f"{self.storage}/{_shard_name(k)}" for k in self.faults()) or str(self.storage)
            raise StoreError(f"{damaged} is damaged ({str(error)[:100]})", _REPAIR_HINT) from None

    def _require_all_shards(self) -> None:
        if missing := self.missing_shards():
            raise StoreError(
                f"{self.storage}: {len(missing)} of {self.layout.n_shards} shards have not been captured",
                "`probemap capture RUN` resumes the capture",
            )

    def faults(self) -> dict[int, str]:
        """Return the shards that are missing or whose files have changed since they were committed.

        Returns
        -------
        dict of int to str
            Mapping from shard number to fault: ``missing`` (never committed), ``lost`` (committed, but the file no
            longer exists), ``changed`` or ``marker changed``.

        Raises
        ------
        StoreError
            If a file that describes the whole store (``layout.json`` or ``states/zarr.json``) has changed.
        """
        faults: dict[int, str] = {}
        missing, description = set(self.missing_shards()), self._description_hash()
        committed_descriptions: set[str] = set()
        for shard in range(self.layout.n_shards):
            if shard in missing:
                faults[shard] = "missing"
            elif (marker := self._read_marker(shard)) is None:
                faults[shard] = "marker changed"
            else:
                committed_descriptions.add(str(marker["description"]))
                files = {_shard_name(shard): marker["sha256"]}
                if "input_embeddings" in marker:
                    files[_embeddings_name(shard)] = marker["input_embeddings"]
                try:
                    if any(_sha256(self.storage.read(name)) != sha256 for name, sha256 in files.items()):
                        faults[shard] = "changed"
                except FileNotFoundError:
                    faults[shard] = "lost"
        if committed_descriptions and committed_descriptions != {description}:
            raise StoreError(f"{self.storage}: layout.json or states/zarr.json has changed", _REDO_HINT)
        return faults

    def set_aside(self, shard: int) -> None:
        """Move the files of a shard to the ``aside`` directory, so that the shard can be captured again."""
        number = len(self.storage.names("aside"))
        for name, suffix in ((_marker_name(shard), "json"), (_shard_name(shard), "shard")):
            self.storage.move(name, f"aside/{shard:05d}-{number:05d}.{suffix}")

    def content_hash(self) -> str:
        """Return a SHA-256 hash of the layout and all shards, with their input embeddings.

        The hashes of the shards are read from their markers, not computed again.

        Raises
        ------
        StoreError
            If a marker is missing or damaged.
        """
        self._require_all_shards()
        digest = hashlib.sha256(json.dumps(asdict(self.layout), sort_keys=True).encode())
        for shard in range(self.layout.n_shards):
            if (marker := self._read_marker(shard)) is None:
                raise StoreError(f"{self.storage}/{_marker_name(shard)} is damaged", _REPAIR_HINT)
            digest.update(str(marker["sha256"]).encode())
            digest.update(str(marker.get("input_embeddings", "")).encode())
        return digest.hexdigest()

    def _read_marker(self, shard: int) -> dict[str, Any] | None:
        """Return the marker of a shard, or None if the marker file has changed since it was written."""
        content = self.storage.read(_marker_name(shard))
        try:
            marker: dict[str, Any] = json.loads(content)
            check = marker.pop("check")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        # Comparing the bytes also detects changes that do not affect the parsed values, such as added white space.
        unchanged = json.dumps({**marker, "check": check}).encode() == content
        return marker if unchanged and check == _marker_hash(marker) else None

    def _description_hash(self) -> str:
        """Return the SHA-256 hash of the files that describe the whole store."""
        return _sha256(self.storage.read("layout.json") + self.storage.read("states/zarr.json"))


def _remote_storage(url: str, description: bytes) -> RemoteStorage:
    return RemoteStorage(f"{url.rstrip('/')}/{_sha256(description)[:16]}")


def _create_array(storage: StorageBackend, layout: Layout) -> None:
    rows, tail = layout.shard_rows, layout.shape[1:]
    with storage.translated_errors():
        if isinstance(storage, RemoteStorage) and "states/zarr.json" in storage.names("states"):
            return  # another process has created it, with the same layout
        zarr.create_array(
            storage.zarr("states"),
            shape=layout.shape,
            chunks=(rows, 1, 1, layout.d),
            shards=(rows, *tail),
            dtype=layout.dtype,
            fill_value=float("nan"),
            compressors=Crc32cCodec(),
            dimension_names=("answer", "layer", "position", "d"),
            overwrite=isinstance(storage, LocalStorage),
        )
    storage.persist("states/zarr.json")


def _shard_name(shard: int) -> str:
    return f"states/c/{shard}/0/0/0"


def _embeddings_name(shard: int) -> str:
    return f"input_embeddings/{shard:05d}.safetensors"


def _marker_name(shard: int) -> str:
    return f"commits/{shard:05d}.json"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _marker_hash(marker: dict[str, Any]) -> str:
    return _sha256(json.dumps(marker).encode())
