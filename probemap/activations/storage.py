"""Storage backends: a local directory, or any file system that fsspec supports, such as a cloud bucket.

Each backend writes a file either completely or not at all, and a completed write survives a power failure.  Local
directories are not accessed through fsspec, because its local file system overwrites files in place and never
calls fsync.  Furthermore, only a local directory needs a lock, and only the errors of a remote file system need to be
converted to StoreError.
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
    """Interface for accessing files by name.  The directories in a name are separated by ``/``."""

    def read(self, name: str) -> bytes:
        """Return the content of a file, or raise FileNotFoundError if it does not exist."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically and durably."""

    def names(self, directory: str) -> set[str]:
        """Return the full names of all files below a directory, or an empty set if the directory does not exist."""

    def move(self, name: str, new_name: str) -> None:
        """Rename a file, if it exists."""

    def persist(self, name: str) -> None:
        """Ensure that a file written by other code (zarr) survives a power failure."""

    def zarr(self, directory: str) -> Any:
        """Return the value to pass to ``zarr.open_array`` as its ``store`` argument to open an array in a directory."""

    def lock(self) -> AbstractContextManager[None]:
        """Return a context manager that locks the backend while a store is created, if the backend needs a lock."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Return a context manager that converts errors of a remote file system to StoreError."""


class LocalStorage:
    """Storage in a local directory."""

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
        # zarr renames files atomically but never calls fsync.
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
        return nullcontext()  # the messages of OSError, e.g. for a full disk, are clear


class RemoteStorage:
    """Storage in a directory of a remote file system that fsspec supports and that writes objects atomically."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"cannot open {url}: {error}",
                "install the package for the protocol (s3fs for s3://, gcsfs for gs://, adlfs for abfs://), or omit "
                "--store to keep the states in the run directory",
            ) from None

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        with self.translated_errors():
            try:
                return bytes(self.files.cat_file(f"{self.root}/{name}"))
            except FileNotFoundError as error:
                missing = error
        raise missing  # outside the context manager, which would convert it

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
        pass  # an object is durable once it has been uploaded

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
        except Exception as error:  # each file system has its own exceptions
            raise StoreError(
                f"{self.url}: {type(error).__name__}: {redacted_message(error)}",
                "check the URL, the credentials and the permissions; files written so far are kept",
            ) from None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
