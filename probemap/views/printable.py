"""Foreign text made safe to print: no control characters, no direction marks."""


def printable(text: str) -> str:
    """Replace control characters, line breaks and direction marks by escape sequences.

    Parameters
    ----------
    text : str
        Text from a model, a file or another program.

    Returns
    -------
    str
        The text with every character that Unicode does not count as printable written as ``\\n``, ``\\x1b``,
        ``\\u202e``, ….
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
