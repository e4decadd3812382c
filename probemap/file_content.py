"""Recognise files that do not contain the data that their suffix indicates.

A repository that was cloned without Git LFS contains a small text file, a pointer, in place of each large file.  A
download that failed may leave a web page or an empty file.
"""

from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")


def placeholder(path: Path) -> tuple[str, str] | None:
    """Return a problem and a hint if a file is empty, a Git LFS pointer or a web page; otherwise, return None.

    Parameters
    ----------
    path : Path
        Path of a file that should contain data, such as weights or a table.

    Returns
    -------
    tuple of (str, str) or None
        A sentence that states the problem, and advice.
    """
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if not start:
        return f"{path} is empty", "download or write the file again"
    if start.startswith(_POINTER):
        return f"{path} is a Git LFS pointer, not the file itself", "run `git lfs pull`, or download the file"
    if start.lstrip().lower().startswith(_PAGES):
        return f"{path} is a web page, not the file itself", "download the file again, from its direct URL"
    return None
