"""A detector's files on the Hugging Face hub: sent as they are, and fetched without anything that lies beside them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probemap.records import DetectorError

FILES = ("detector.safetensors", "config.json", "README.md")
"""What a detector consists of: nothing else is sent or fetched."""
SCHEME = "hf://"

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TOKEN = "give a token that may do this: `hf auth login`, or HF_TOKEN in the environment"  # noqa: S105


def parse(address: str) -> tuple[str, str | None]:
    """Repository and revision of ``hf://owner/name[@revision]``; None: its newest state.

    Raises
    ------
    DetectorError: another form.
    """
    repo, at, revision = address.removeprefix(SCHEME).partition("@")
    if at and not revision:
        raise DetectorError(f"{address} has an empty revision", "hf://owner/name@revision, or without the @")
    return _checked(repo), revision or None


def push(folder: Path, repo: str, *, private: bool = True) -> str:
    """Send the files of a detector's folder as one commit, the card as it stands; the repository is made if need be.

    Returns
    -------
    The repository's address, to be opened in a browser.

    Raises
    ------
    DetectorError: a bad name, no token or one that may not write, a repository that holds something else or that
        everybody can read though `private` was asked for, or a hub that does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="probemap")
    with _asking(_checked(repo)):
        url = api.create_repo(repo, private=private, exist_ok=True)
        there = api.model_info(repo)
        names = {file.rfilename for file in there.siblings or ()}
        if "config.json" in names and "detector.safetensors" not in names:
            raise DetectorError(f"{repo} holds something other than a detector", "name another repository")
        if private and there.private is False:
            raise DetectorError(
                f"{repo} is there already, and everybody can read it", "say --public (private=False), or name another"
            )
        if not private and there.private:
            raise DetectorError(
                f"{repo} is there already, and private", "make it public on its page, or push without --public"
            )
        api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=list(FILES), commit_message="A detector, by probemap"
        )
    return str(url)


def pull(repo: str, revision: str | None = None) -> Path:
    """The folder in the hub's cache that a detector was fetched to, or had been fetched to before.

    Parameters
    ----------
    revision: a branch, tag or commit; None: the newest state.

    Raises
    ------
    DetectorError: a bad name, no such repository or revision, none that this token may see, or nothing in the cache
        while the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _asking(_checked(repo), revision):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES), library_name="probemap"))


def _checked(repo: str) -> str:
    if not _NAME.fullmatch(repo):
        raise _misnamed(repo)
    return repo


def _misnamed(repo: str) -> DetectorError:
    return DetectorError(f"{repo!r:.200} is no repository's name", "owner/name, as in hf://owner/name@revision")


@contextmanager
def _asking(repo: str, revision: str | None = None) -> Iterator[None]:
    """The hub's complaints in our words: its own may repeat what it was sent, a token included."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # in place of what kept it from asking
        raise _told(error.__cause__, repo, revision) from None
    except (errors.HTTPError, errors.OfflineModeIsEnabled, ValueError) as error:
        raise _told(error, repo, revision) from None


def _told(error: BaseException | None, repo: str, revision: str | None) -> DetectorError:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return DetectorError(f"{repo} has no revision {revision!r:.80}", "give a branch, tag or commit of it")
    if isinstance(error, errors.RepositoryNotFoundError):  # so the hub calls private and gated ones, too
        return DetectorError(f"the hub shows no {repo}", f"check the name; if it is private or gated, {_TOKEN}")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return DetectorError(f"the hub does not let you use {repo} (status {status})", _TOKEN)
        return DetectorError(f"the hub refused {repo} (status {status})", "see https://status.huggingface.co")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DetectorError(f"HF_HUB_OFFLINE is set, and {repo} was not fetched before", "unset it")
    if isinstance(error, errors.HFValidationError):
        return _misnamed(repo)
    if isinstance(error, ValueError) and "metadata" in str(error):
        return DetectorError(
            f"the hub does not take the card of {repo}", "check the lines between the two --- of its README.md"
        )
    if isinstance(error, ValueError):
        return DetectorError(f"what answers to the question for {repo} is no hub", "check HF_ENDPOINT, or your proxy")
    return DetectorError(f"the hub cannot be reached, to ask for {repo}", "check the network, or HF_ENDPOINT")
