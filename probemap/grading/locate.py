"""Locate the exact answer from the question and the model's text, without using the accepted answers.

A locator sees neither the accepted answers nor the verdict, so that the probed token cannot depend on whether the
answer is correct.  The only exception is `paper_locator`, which is intended for comparison with published maps.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from probemap.grading.rules import asserted_answer, examples_of, is_incomplete
from probemap.reading.choices import asserted_choice
from probemap.reading.closed_set import asserted_name
from probemap.reading.folding import find_words
from probemap.reading.names import Groups
from probemap.reading.results import asserted_number
from probemap.records import Answer, DataError, Example, Span, Task

Locator = Callable[[str, str], tuple[int, int] | None]
"""Callable ``(question, text) -> (start, stop) | None``, where `text` is an answer without its reasoning.  It returns
the character range of the exact answer in `text`, or None if it finds none."""

LocatorFactory = Callable[[Groups], Locator]
"""Callable ``(possible) -> Locator``, where `possible` is the closed set of possible answers, or empty if there is no
such set."""


def locate(task: Task, answers: Sequence[Answer], *, locator: Locator | None = None) -> list[Span | None]:
    """Locate the exact answer in each answer.

    Parameters
    ----------
    task : Task
    answers : sequence of Answer
        Answers, which are matched by id to the examples in the task.
    locator : callable, optional
        Callable ``(question, text) -> (start, stop) | None``, where `text` is the answer without its reasoning, and the
        exact answer is ``text[start:stop]``.  It sees neither the accepted answers nor the verdict.  The default is the
        rule for the task's kind, which locates nothing in answers to open questions.

    Returns
    -------
    list of Span or None
        One span per answer, in the same order as `answers`.  A span is None if no exact answer was located, or if the
        answer was cut off at the token limit inside the exact answer.

    Raises
    ------
    DataError
        If an answer belongs to no example, or the locator returns a range outside the text.

    Examples
    --------
    >>> import probemap
    >>> from probemap import Answer, Example, Task
    >>> task = Task("sums", (Example("a", "What is 2 + 3?", ("5",)),), "numbers")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="It is 5.", token_ids=(0, 1, 2, 3), n_prompt=1,
    ...     offsets=((0, 1), (0, 5), (5, 7), (7, 8)), logprobs=(-0.1, -0.2, -0.3), stopped=True,
    ... )
    >>> probemap.locate(task, [answer])
    [Span(start=2, stop=3, text='5')]
    >>> probemap.locate(task, [answer], locator=lambda question, text: (0, 2))
    [Span(start=1, stop=2, text='It')]
    """
    pairs = zip(examples_of(task, answers), answers, strict=True)
    return [locate_answer(task, example, answer, locator)[0] for example, answer in pairs]


def locate_answer(
    task: Task, example: Example, answer: Answer, locator: Locator | None = None
) -> tuple[Span | None, str]:
    """Locate the exact answer in a single answer; see `locate`.

    Returns
    -------
    span : Span or None
    reason : str
        Reason why there is no span; empty if there is one.
    """
    answer = answer.final  # has the same token ids, so that the span is valid for both
    mention = None
    if locator is None or not answer.stopped:
        mention = asserted_answer(task, example, answer.text)
    if is_incomplete(task, example, answer, mention):
        return None, "cut off inside the exact answer"
    if locator is not None:
        characters = _check_range(locator(example.question, answer.text), answer)
    else:
        characters = None if mention is None else (mention.start, mention.stop)
    if characters is None:
        return None, "empty answer" if not answer.text.strip() else "no exact answer found"
    start, stop = characters
    if not answer.stopped and stop == len(answer.text):  # the last word may be incomplete
        return None, "cut off inside the exact answer"
    return token_span(answer, start, stop), ""


def _check_range(characters: Any, answer: Answer) -> tuple[int, int] | None:
    """Validate the result of a locator, and return it as (start, stop) or None.

    Raises
    ------
    DataError
        If the result is neither None nor a range of at least one character inside the text.
    """
    if characters is None:
        return None
    try:
        start, stop = (operator.index(number) for number in characters)
    except (TypeError, ValueError):
        start, stop = 0, 0
    if not 0 <= start < stop <= len(answer.text):
        raise DataError(
            f"the locator returned {characters!r:.60} for the answer {answer.id!r}, whose text has "
            f"{len(answer.text)} characters",
            "return (start, stop) with 0 <= start < stop <= len(text), or None",
        )
    return start, stop


def token_span(answer: Answer, start: int, stop: int) -> Span:
    """Return the span of produced tokens that contain at least one byte of ``answer.text[start:stop]``.

    The decoded tokens contain all of these characters, even multi-byte characters that are split across tokens.  They
    contain additional characters only if the range starts or ends inside a token.

    Raises
    ------
    ValueError
        If the range is empty or not inside the text.
    """
    if not 0 <= start < stop <= len(answer.text):
        raise ValueError(f"the range {start}:{stop} is empty or outside an answer of {len(answer.text)} characters")
    indices = [
        i
        for i, (first, end) in enumerate(answer.offsets[answer.n_prompt :], answer.n_prompt)
        if first < stop and end > start
    ]
    return Span(indices[0], indices[-1] + 1, answer.text[start:stop])


def name_locator(possible: Groups) -> Locator:
    """Return a locator that finds the first possible answer that the text asserts."""

    def locate_name(question: str, text: str) -> tuple[int, int] | None:
        mention = asserted_name(text, possible, question)
        return None if mention is None else (mention.start, mention.stop)

    return locate_name


def choice_locator(possible: Groups) -> Locator:
    """Return a locator that finds the first lettered choice that the text asserts, including its letter and words."""

    def locate_choice(question: str, text: str) -> tuple[int, int] | None:
        mention = asserted_choice(text, possible, question)
        return None if mention is None else (mention.start, mention.stop)

    return locate_choice


def locate_number(question: str, text: str) -> tuple[int, int] | None:
    """Locate the number that the text gives as its result."""
    mention = asserted_number(question, text)
    return None if mention is None else (mention.start, mention.stop)


def locate_nothing(question: str, text: str) -> tuple[int, int] | None:
    """Return None, so that the map has no columns for the exact answer."""
    return None


LOCATORS: dict[str, LocatorFactory] = {
    "names": name_locator,
    "numbers": lambda possible: locate_number,
    "choices": choice_locator,
    "none": lambda possible: locate_nothing,
}
"""Mapping from name to locator factory.  The first three are named after the kind of task for which they are intended.
For open questions, see `llm.llm_locator`."""


def paper_locator(example: Example, correct: bool | None, ordinary: Locator) -> Locator:
    """Return a locator for one example that USES THE ACCEPTED ANSWERS AND THE VERDICT, for comparison only.

    With this locator, the probed token depends on WHETHER THE ANSWER IS CORRECT.  In a correct answer, the locator
    finds the first occurrence of an accepted answer, even if that occurrence is an operand, is negated, or is mentioned
    in passing.  In an incorrect answer, it returns the result of `ordinary`, which follows different rules.  A probe
    can separate correct from incorrect answers by this difference alone, so maps that use this locator must not be
    reported as findings.

    The locator is provided only for comparison with maps that were computed in this way (Orgad et al. 2024, arXiv
    2410.02707, and its published code).

    Parameters
    ----------
    example : Example
    correct : bool or None
        The verdict.  If it is True, the accepted answer that occurs first in the text is located; if several start at
        the same character, the one that is listed first is used.  Only whole words match, ignoring case and accents
        (the published code also matches parts of words).
    ordinary : Locator
        Locator that is used for incorrect and undecided answers, and for correct answers in which no accepted answer
        occurs verbatim (e.g. "seventeen" for 17).
    """

    def locate_accepted(question: str, text: str) -> tuple[int, int] | None:
        ranges = [words for answer in example.answers if (words := find_words(text, answer))] if correct else []
        return min(ranges, key=lambda words: words[0]) if ranges else ordinary(question, text)

    return locate_accepted
