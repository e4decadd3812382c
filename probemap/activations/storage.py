"""Where the files of a store lie: a folder, or a URL of any file system that fsspec knows, such as a bucket.

A place writes a file whole or not at all, and what it has written it still has after a power cut.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from probemap.records import StoreError
from probemap.redact import redacted_message


class StorageBackend(Protocol):
    """Files by name, with ``/`` between folders."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all, and to stay."""

    def names(self, folder: str) -> set[str]:
        """All files under a folder, with their whole names; empty if there is none."""

    def move(self, name: str, to: str) -> None:
        """Rename a file; one that is not there is left alone."""

    def persist(self, name: str) -> None:
        """What another has written stays."""

    def zarr(self, folder: str) -> Any:
        """What zarr opens."""

    def lock(self) -> Any:
        """A context that one process at a time is in."""

    def translated_errors(self) -> Any:
        """A context in which a refusal of the place is told as one."""


class LocalStorage:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part-{os.getpid()}")
        part.write_bytes(content)
        _sync(part)
        part.replace(path)
        _sync(path.parent)

    def names(self, folder: str) -> set[str]:
        found = (Path(where, name) for where, _, names in os.walk(self.path / folder) for name in names)
        return {path.relative_to(self.path).as_posix() for path in found if not path.name.startswith(".")}

    def move(self, name: str, to: str) -> None:
        if (self.path / name).exists():
            (self.path / to).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).rename(self.path / to)

    def persist(self, name: str) -> None:
        # zarr renames atomically but never syncs.
        file = self.path / name
        _sync(file)
        for folder in file.parents:
            _sync(folder)
            if folder == self.path:
                break

    def zarr(self, folder: str) -> Any:
        return str(self.path / folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        yield  # a disk that is full says so itself


class RemoteStorage:
    """A folder of a file system that fsspec reaches, which writes an object whole or not at all."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"{url} cannot be reached: {error}",
                "for s3:// pip install s3fs, for gs:// gcsfs, for abfs:// adlfs; local states need no --store",
            ) from None

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        with self.translated_errors():
            try:
                return bytes(self.files.cat_file(f"{self.root}/{name}"))
            except FileNotFoundError as error:
                missing = error
        raise missing

    def write(self, name: str, content: bytes) -> None:
        with self.translated_errors():
            self.files.pipe_file(f"{self.root}/{name}", content)

    def names(self, folder: str) -> set[str]:
        with self.translated_errors():
            found = self.files.find(f"{self.root}/{folder}")
        return {str(name).split(f"{self.root.lstrip('/')}/", 1)[-1] for name in found}

    def move(self, name: str, to: str) -> None:
        with self.translated_errors():
            if self.files.exists(f"{self.root}/{name}"):
                self.files.mv(f"{self.root}/{name}", f"{self.root}/{to}")

    def persist(self, name: str) -> None:
        pass  # an object that was put stays

    def zarr(self, folder: str) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(f"{self.url}/{folder}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield  # all who begin write the same bytes

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # every file system raises its own kinds
            raise StoreError(
                f"{self.url}: {type(error).__name__}: {redacted_message(error)}",
                "check the address, the credentials and the rights; what was written there is kept",
            ) from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
