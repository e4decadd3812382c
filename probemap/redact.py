"""What others complain of, in one line, without the keys that they were sent: some servers repeat them."""

import os
import re
from pathlib import Path

LONGEST = 300
"""Characters of a complaint that are told."""

_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
_SHORTEST = 6
"""Shorter values are words that stand in texts anyway."""


def redacted_message(error: BaseException) -> str:
    """The first line of an error's text, or its type, `without_secrets`."""
    line = without_secrets(str(error)).strip().split("\n")[0]
    return line[:LONGEST] or type(error).__name__


def without_secrets(text: str) -> str:
    """The text with ``…`` wherever a secret stood in it.

    A secret is what `hf auth login` keeps, and any variable whose name ends in TOKEN, KEY, SECRET, PASSWORD or so.
    """
    held = [value.strip() for name, value in os.environ.items() if _SECRET.search(name)]
    for secret in sorted({*held, _of_the_hub()}, key=len, reverse=True):  # one may be a part of another
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "…")
    return text


def _of_the_hub() -> str:
    """What `hf auth login` has written, where it writes it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return (Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()).read_text().strip()
    except (OSError, RuntimeError, ValueError):
        return ""
