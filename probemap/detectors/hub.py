"""Functions to upload detectors to the Hugging Face hub and to download them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probemap.records import DetectorError

FILES = ("detector.safetensors", "config.json", "README.md")
"""The files of a detector; no other file is uploaded or downloaded."""
SCHEME = "hf://"

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TOKEN_HINT = "use an access token with the required permission: run `hf auth login` or set HF_TOKEN"  # noqa: S105


def parse_address(address: str) -> tuple[str, str | None]:
    """Split ``hf://owner/name[@revision]`` into the repository and the revision.

    Returns
    -------
    tuple of (str, str or None)
        The repository and the revision, with None for the newest revision.

    Raises
    ------
    DetectorError
        If the address is invalid.
    """
    repo, at, revision = address.removeprefix(SCHEME).partition("@")
    if at and not revision:
        raise DetectorError(
            f"the address {address} has an empty revision", "use hf://owner/name@revision, or omit the @"
        )
    return _checked(repo), revision or None


def push_to_hub(directory: str | Path, repo: str, *, private: bool = True) -> str:
    """Upload a saved detector to a repository on the Hugging Face hub.

    The files are uploaded unchanged in a single commit, including any edits to the model card.  The repository is
    created if it does not exist.  Note that the provenance in ``config.json`` records where the model was loaded from,
    which may be a local path.

    Parameters
    ----------
    directory : str or Path
        A directory written by `Detector.save`.
    repo : str
        The repository, in the form ``owner/name``.
    private : bool
        Whether the repository is private.

    Returns
    -------
    str
        The URL of the repository.

    Raises
    ------
    DetectorError
        If the repository name is invalid, if the token is missing or lacks permission, if an existing repository
        contains something other than a detector or does not have the visibility requested by `private`, or if the hub
        cannot be reached.

    Examples
    --------
    >>> from probemap import push_to_hub
    >>> push_to_hub("my-detector", "no owner")
    Traceback (most recent call last):
    ...
    probemap.records.DetectorError: 'no owner' is not a repository name
    hint: use owner/name, as in hf://owner/name@revision
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="probemap")
    with _translated_errors(_checked(repo)):
        url = api.create_repo(repo, private=private, exist_ok=True)
        info = api.model_info(repo)
        names = {file.rfilename for file in info.siblings or ()}
        if "config.json" in names and "detector.safetensors" not in names:
            raise DetectorError(f"the repository {repo} contains something other than a detector", "use another name")
        if private and info.private is False:
            raise DetectorError(
                f"the repository {repo} already exists and is public",
                "push with --public (private=False), or use another name",
            )
        if not private and info.private:
            raise DetectorError(
                f"the repository {repo} already exists and is private",
                "make it public on its web page, or push without --public",
            )
        api.upload_folder(
            repo_id=repo, folder_path=directory, allow_patterns=list(FILES), commit_message="Upload probemap detector"
        )
    return str(url)


def download(repo: str, revision: str | None = None) -> Path:
    """Download a detector unless it is already in the cache, and return its directory.

    Parameters
    ----------
    repo : str
        The repository, in the form ``owner/name``.
    revision : str or None
        A branch, tag or commit.  If None, the newest revision is used.

    Returns
    -------
    Path
        The detector's directory in the local cache.

    Raises
    ------
    DetectorError
        If the repository name is invalid, if the repository or the revision does not exist or is not accessible with
        the token, or if the detector is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _translated_errors(_checked(repo), revision):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES), library_name="probemap"))


def _checked(repo: str) -> str:
    if not _REPOSITORY.fullmatch(repo):
        raise _invalid_name(repo)
    return repo


def _invalid_name(repo: str) -> DetectorError:
    return DetectorError(f"{repo!r:.200} is not a repository name", "use owner/name, as in hf://owner/name@revision")


@contextmanager
def _translated_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Convert errors from the hub to `DetectorError`, because their messages may contain the token that was sent."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # raised in place of the connection error
        raise _translated(error.__cause__, repo, revision) from None
    except (errors.HTTPError, errors.OfflineModeIsEnabled, ValueError) as error:
        raise _translated(error, repo, revision) from None


def _translated(error: BaseException | None, repo: str, revision: str | None) -> DetectorError:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return DetectorError(f"{repo} has no revision {revision!r:.80}", "use one of its branches, tags or commits")
    if isinstance(error, errors.RepositoryNotFoundError):  # also raised for private and gated repositories
        return DetectorError(
            f"the repository {repo} does not exist or is not accessible",
            f"check the name; if the repository is private or gated, {_TOKEN_HINT}",
        )
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return DetectorError(f"the hub denied access to {repo} (status {status})", _TOKEN_HINT)
        return DetectorError(
            f"the hub failed to process the request for {repo} (status {status})", "see https://status.huggingface.co"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DetectorError(f"{repo} is not in the cache, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
    if isinstance(error, errors.HFValidationError):
        return _invalid_name(repo)
    if isinstance(error, ValueError) and "metadata" in str(error):
        return DetectorError(
            f"the hub rejected the model card of {repo}",
            "correct the YAML header of its README.md, between the two lines ---",
        )
    if isinstance(error, ValueError):
        return DetectorError(
            f"the server that answered the request for {repo} is not a hub", "check HF_ENDPOINT and the proxy settings"
        )
    return DetectorError(f"cannot reach the hub to access {repo}", "check the network connection and HF_ENDPOINT")
