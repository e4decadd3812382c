"""Thinking models: where the reasoning ends and the answer proper begins."""

from collections.abc import Sequence

_BLOCKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, SmolLM3 and most others
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|channel|>analysis", "<|channel|>final<|message|>"),  # gpt-oss
)


def count_reasoning_tokens(prompt: str, text: str, offsets: Sequence[tuple[int, int]]) -> int:
    """How many of the produced tokens, from the first on, are reasoning; the white space behind it included.

    A block counts as opened if the text begins with its opening, or the prompt ends with it (some templates write it).
    One that is never closed is reasoning to its end: there is no answer proper.

    Parameters
    ----------
    offsets: for each produced token its characters in `text`, as in `records.Answer`.
    """
    for opening, closing in _BLOCKS:
        if not (text.lstrip().startswith(opening) or prompt.rstrip().endswith(opening)):
            continue
        at = text.rfind(closing)
        if at < 0:
            return sum(start < len(text) for start, _ in offsets)
        stop = at + len(closing)
        stop += len(text[stop:]) - len(text[stop:].lstrip())
        return sum(start < stop and end <= stop for start, end in offsets)
    return 0
