"""Escaping of untrusted text, so that it is printed without control characters and direction marks."""


def printable(text: str) -> str:
    """Replace control characters, line breaks and direction marks with escape sequences.

    Parameters
    ----------
    text : str
        Text from a model, a file or another program.

    Returns
    -------
    str
        The text in which every character that is not printable according to Unicode is replaced with its escape
        sequence, such as ``\\n``, ``\\x1b`` or ``\\u202e``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
