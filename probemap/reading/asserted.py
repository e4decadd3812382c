"""The result of reading what a text asserts as its answer.

Grading and locating use the same functions, so that the verdict and the exact answer refer to the same words.  These
functions receive neither the accepted answers nor the verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Asserted:
    """What a text asserts as its answer, ``text[start:stop]``."""

    start: int
    stop: int
    value: int | Fraction | str
    """What is asserted: the index of a group of spellings (int), a number (Fraction), or the words of the answer to an
    open question (str)."""
    rule: str
    """Name of the rule that decided."""


_NEXT_TURN = re.compile(
    r"\n[^\S\n]*(?:#+\s*)?(?:\**)?(?:question|q|frage|pregunta|вопрос|问题|user|human|instruction|problem"
    r"|example)\s*\d*\s*\**\s*[:：.]"
    r"|<\|(?:im_start|im_end|user|end|eot_id|endoftext)\|?>|</?s>|<(?:eos|bos|end_of_turn|start_of_turn)>"
    r"|\[/?INST\]|\n[^\S\n]*\d+\.\s+(?:who|what|which|where|when|how|is|are)\b[^\n]*\?|\n[^\S\n]*\[INST\]",
    re.IGNORECASE,
)


def own_length(text: str) -> int:
    """Return the length of the model's own answer, which ends before the first question that the model makes up.

    Examples
    --------
    >>> from probemap.reading.asserted import own_length
    >>> own_length("Milan\\n\\nQ: Where is the Colosseum?\\nA: Rome")
    5
    """
    match = _NEXT_TURN.search(text)
    own = text[: match.start()].rstrip() if match else ""
    return len(own) or len(text)
