"""Remove secrets from the error messages of other libraries.

Some servers repeat the API key in their error messages.
"""

import os
import re
from pathlib import Path

MAX_LENGTH = 300
"""Maximum length of a redacted error message, in characters."""

_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
_MIN_LENGTH = 6
"""Minimum length of a secret.  Shorter values may be ordinary words that occur in a text by chance."""


def redacted_message(error: BaseException) -> str:
    """Return the first line of an error message with secrets removed, or the error's type if the message is empty."""
    line = redact_secrets(str(error)).strip().split("\n")[0]
    return line[:MAX_LENGTH] or type(error).__name__


def redact_secrets(text: str) -> str:
    """Return the text with ``…`` in place of each secret.

    Secrets are the token that ``hf auth login`` stores, and the values of environment variables whose names end in
    TOKEN, KEY, SECRET, PASSWORD, PASSWD or CREDENTIALS, regardless of case.
    """
    secrets = {value.strip() for name, value in os.environ.items() if _SECRET.search(name)} | {_hub_token()}
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may be part of a longer one
        if len(secret) >= _MIN_LENGTH:
            text = text.replace(secret, "…")
    return text


def _hub_token() -> str:
    """Return the token that ``hf auth login`` stored, or an empty string."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return (Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()).read_text().strip()
    except (OSError, RuntimeError, ValueError):
        return ""
