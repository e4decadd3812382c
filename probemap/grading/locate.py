"""Where the exact answer is: from the question and the model's text alone, never from the gold answer.

A locator is ``(question, text, possible) -> (start, stop) | None``: characters of `text`.  It is handed
neither the accepted answers nor the verdict, so *where* we probe cannot depend on whether the answer was
right.  `possible` is the closed set that answers come from, empty where there is none.

The one exception is `paper_locator`, which exists for comparison only.
"""

from collections.abc import Callable

from probemap.grading.rules import is_cut_inside, possible_answers
from probemap.mentions import Groups, asserted_choice, asserted_name, asserted_number, fold
from probemap.records import Answer, Example, Span, Task

Locator = Callable[[str, str, Groups], tuple[int, int] | None]


def locate_name(question: str, text: str, possible: Groups) -> tuple[int, int] | None:
    """The first possible answer that the text asserts."""
    mention = asserted_name(text, possible)
    return None if mention is None else (mention.start, mention.stop)


def locate_number(question: str, text: str, possible: Groups) -> tuple[int, int] | None:
    """The number that the text gives as its result."""
    mention = asserted_number(question, text)
    return None if mention is None else (mention.start, mention.stop)


def locate_choice(question: str, text: str, possible: Groups) -> tuple[int, int] | None:
    """The first lettered choice that the text asserts, letter and words."""
    mention = asserted_choice(text, possible)
    return None if mention is None else (mention.start, mention.stop)


def locate_nothing(question: str, text: str, possible: Groups) -> tuple[int, int] | None:
    """No exact answer: the map then has no exact-answer columns."""
    return None


LOCATORS: dict[str, Locator] = {
    "names": locate_name,
    "numbers": locate_number,
    "choices": locate_choice,
    "none": locate_nothing,
}
"""Name -> locator.  A task of kind ``names`` or ``numbers`` uses the one of its name; for open questions a model can
be asked, see `assess.extraction`."""


def paper_locator(example: Example, correct: bool | None, ordinary: Locator) -> Locator:
    """NOT FOR FINDINGS: a locator for this example alone that KNOWS THE GOLD ANSWER and whether the answer was right.

    WHERE we probe then depends on WHETHER THE ANSWER WAS RIGHT: in a right answer it is the first place where the
    gold answer stands, be it an operand, negated or said in passing; in a wrong one it is what `ordinary` finds, by
    other rules.  A probe can tell right from wrong answers by that difference alone.  It exists for comparison with
    maps that were made this way (Orgad et al. 2024, arXiv 2410.02707, as its published code does it).

    Parameters
    ----------
    correct: the verdict.  True: the accepted answer that stands first in the text, at the same place the one listed
        first; whole words, case and accents aside (the published code takes any part of a word).  A right answer
        where none stands so (seventeen for 17), a wrong one and an undecided one go to `ordinary`.
    """

    def locate_gold(question: str, text: str, possible: Groups) -> tuple[int, int] | None:
        places = [place for gold in example.answers if (place := find_words(text, gold))] if correct else []
        return min(places, key=lambda place: place[0]) if places else ordinary(question, text, possible)

    return locate_gold


def find_words(text: str, words: str) -> tuple[int, int] | None:
    """The first place where `words` stand in `text` as whole words, case and accents aside."""
    words = words.strip(" \t\r\n\"'“”‘’.,;:!?*`")
    haystack, origin = fold(text)
    needle = fold(words)[0]
    at = haystack.find(needle) if needle else -1
    while at >= 0:
        end = at + len(needle)
        if not (_joins(haystack, at) or _joins(haystack, end)):
            return origin[at], origin[end - 1] + 1
        at = haystack.find(needle, at + 1)
    return None


def _joins(text: str, at: int) -> bool:
    """True if the characters on both sides of `at` belong to one word."""
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def locate(task: Task, example: Example, answer: Answer, locator: Locator | None = None) -> tuple[Span | None, str]:
    """The exact answer's tokens inside one answer, or None and why not.

    A span that reaches the end of an answer cut off at the token limit is refused: its last word may be torn.
    """
    answer = answer.final  # the same token ids, so the span is one of both
    if is_cut_inside(task, example, answer):
        return None, "cut off inside the exact answer"
    find = LOCATORS.get(task.kind, locate_nothing) if locator is None else locator
    found = find(example.question, answer.text, possible_answers(task, example))
    if found is None:
        return None, "empty answer" if not answer.text.strip() else "no exact answer found"
    start, stop = found
    if not answer.stopped and stop == len(answer.text):
        return None, "cut off inside the exact answer"
    return token_span(answer, start, stop), ""


def token_span(answer: Answer, start: int, stop: int) -> Span:
    """The produced tokens that hold a byte of the characters ``answer.text[start:stop]``.

    Decoding them gives the exact answer whole, multi-byte characters split across tokens included, with at
    most the rest of the first and the last token around it.
    """
    if not 0 <= start < stop <= len(answer.text):
        raise ValueError(f"no characters {start}:{stop} in an answer of {len(answer.text)}")
    held = [
        i
        for i, (first, end) in enumerate(answer.offsets[answer.n_prompt :], answer.n_prompt)
        if first < stop and end > start
    ]
    return Span(held[0], held[-1] + 1, answer.text[start:stop])
