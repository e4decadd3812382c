"""Storage backends: a local directory, or a URL of any file system that fsspec supports, such as a bucket.

A backend writes each file completely or not at all, and a completed write survives a power cut.  The two backends are
separate classes because they share nothing but the interface: fsspec's local file system writes in place and never
calls fsync, a local directory needs a lock where a bucket has none, and only remote errors need to be translated.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from probemap.records import StoreError
from probemap.redact import redacted_message


class StorageBackend(Protocol):
    """Files by name, with ``/`` between directories."""

    def read(self, name: str) -> bytes:
        """Return the content of a file, or raise FileNotFoundError."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically and durably."""

    def names(self, directory: str) -> set[str]:
        """Return the full names of all files below a directory, empty if it does not exist."""

    def move(self, name: str, new_name: str) -> None:
        """Rename a file, if it exists."""

    def persist(self, name: str) -> None:
        """Make a file durable that other code (zarr) has written."""

    def zarr(self, directory: str) -> Any:
        """Return what ``zarr.open_array`` needs to open a directory."""

    def lock(self) -> AbstractContextManager[None]:
        """Return a context that one process at a time can enter, if the backend needs one to create a store."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Return a context in which errors of a remote file system become StoreError."""


class LocalStorage:
    """A local directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part-{os.getpid()}")
        temporary.write_bytes(content)
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)

    def names(self, directory: str) -> set[str]:
        paths = (Path(folder, name) for folder, _, names in os.walk(self.path / directory) for name in names)
        return {path.relative_to(self.path).as_posix() for path in paths if not path.name.startswith(".")}

    def move(self, name: str, new_name: str) -> None:
        if (self.path / name).exists():
            (self.path / new_name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).rename(self.path / new_name)

    def persist(self, name: str) -> None:
        # zarr renames atomically but never calls fsync.
        file = self.path / name
        _fsync(file)
        for directory in file.parents:
            _fsync(directory)
            if directory == self.path:
                break

    def zarr(self, directory: str) -> str:
        return str(self.path / directory)

    @contextmanager
    def lock(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    def translated_errors(self) -> AbstractContextManager[None]:
        return nullcontext()  # the messages of OSError, such as a full disk, are clear


class RemoteStorage:
    """A directory of a file system that fsspec supports and that writes objects atomically."""

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
        raise missing  # outside the context, which would translate it

    def write(self, name: str, content: bytes) -> None:
        with self.translated_errors():
            self.files.pipe_file(f"{self.root}/{name}", content)

    def names(self, directory: str) -> set[str]:
        with self.translated_errors():
            paths = self.files.find(f"{self.root}/{directory}")
        return {str(path).split(f"{self.root.lstrip('/')}/", 1)[-1] for path in paths}

    def move(self, name: str, new_name: str) -> None:
        with self.translated_errors():
            if self.files.exists(f"{self.root}/{name}"):
                self.files.mv(f"{self.root}/{name}", f"{self.root}/{new_name}")

    def persist(self, name: str) -> None:
        pass  # an object is durable once it has been put

    def zarr(self, directory: str) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(f"{self.url}/{directory}")

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()  # processes that create a store at the same time write the same bytes

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # each file system has exceptions of its own
            raise StoreError(
                f"{self.url}: {type(error).__name__}: {redacted_message(error)}",
                "check the address, the credentials and the permissions; files written so far are kept",
            ) from None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
