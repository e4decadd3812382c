"""Escape untrusted text, so that no control characters or direction marks are printed."""


def printable(text: str) -> str:
    """Replace control characters, line breaks and direction marks with escape sequences.

    Parameters
    ----------
    text : str
        Text from a model, a file or another program.

    Returns
    -------
    str
        The text, with every character that Unicode classifies as non-printable replaced by an escape sequence such as
        ``\\n``, ``\\x1b`` or ``\\u202e``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
