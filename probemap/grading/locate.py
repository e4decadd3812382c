"""Find what an answer asserts, which part of it can be graded, and where its exact answer is.

The functions use the question and the model's text, but neither the accepted answers nor the verdict.  The probed token
therefore cannot depend on whether the answer is correct.  The only exception is `paper_locator`, which is intended for
comparison with published maps.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from probemap.grading.open_answers import locate_open
from probemap.reading.answerless import is_plan
from probemap.reading.asserted import Asserted, own_length
from probemap.reading.choices import asserted_choice, lists_choices
from probemap.reading.closed_set import asserted_name
from probemap.reading.folding import find_words
from probemap.reading.numbers import find_numbers
from probemap.reading.results import announces_result, asserted_number, continues_steps
from probemap.reading.sentences import complete_sentences
from probemap.reading.yes_no import asks_yes_no, polarity_groups, restated
from probemap.records import Answer, DataError, Example, Span, Task

if TYPE_CHECKING:
    from probemap.reading.names import Groups

Locator = Callable[[str, str], tuple[int, int] | None]
"""Callable ``(question, text) -> (start, stop) | None``, where `text` is an answer without its reasoning.  It returns
the character range of the exact answer in `text`, or None if it finds none."""


def locate(task: Task, answers: Sequence[Answer], *, locator: Locator | None = None) -> list[Span | None]:
    """Locate the exact answer in each answer.

    Parameters
    ----------
    task : Task
    answers : sequence of Answer
        Answers, which are matched by id to the examples in the task.
    locator : callable, optional
        Callable ``(question, text) -> (start, stop) | None``, where `text` is the answer without its reasoning, and the
        exact answer is ``text[start:stop]``.  It receives neither the accepted answers nor the verdict.  By default,
        the exact answer is what the text asserts by the rules for the kind of the question; see `asserted_answer`.

    Returns
    -------
    list of Span or None
        One span per answer, in the same order as `answers`.  A span is None if no exact answer was located, or if the
        answer was cut off at the token limit before the exact answer was complete.

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
    pairs = zip(task.examples_of(answers), answers, strict=True)
    return [locate_answer(task, example, answer, locator)[0] for example, answer in pairs]


def locate_answer(
    task: Task, example: Example, answer: Answer, locator: Locator | None = None
) -> tuple[Span | None, str]:
    """Locate the exact answer in a single answer; see `locate`.

    If the exact answer was supplied with the answer, only its place is determined.

    Returns
    -------
    span : Span or None
    reason : str
        Reason why there is no span, or an empty string if there is one.
    """
    answer = answer.final  # has the same token ids, so that the span is valid for both
    mention = None
    if locator is None or not answer.stopped:
        mention = asserted_answer(task, example, answer.text)
    if answer.exact_answer is not None and locator is not locate_nothing:
        asserted = mention or asserted_answer(task, example, answer.text)
        characters = _supplied_range(answer.text, answer.exact_answer, asserted)
    elif is_incomplete(task, example, answer, mention):
        return None, "cut off inside the exact answer"
    elif locator is not None:
        characters = _check_range(locator(example.question, answer.text), answer)
    else:
        characters = None if mention is None else (mention.start, mention.stop)
    if characters is None:
        return None, "empty answer" if not answer.text.strip() else "no exact answer found"
    start, stop = characters
    if not answer.stopped and stop == len(answer.text):  # the last word may be incomplete
        return None, "cut off inside the exact answer"
    return token_span(answer, start, stop), ""


def _supplied_range(text: str, exact_answer: str, asserted: Asserted | None) -> tuple[int, int] | None:
    """Return the place of a supplied exact answer in a text, or None if it does not occur there.

    If it occurs several times, the place is the one that the rules locate or, if they locate another one, the last one,
    because most tools extract the last match.
    """
    verbatim = re.escape(exact_answer)
    ranges = [match.span() for match in re.finditer(rf"(?<!\w){verbatim}(?!\w)", text)]
    ranges = ranges or [match.span() for match in re.finditer(verbatim, text)]
    same = [(a, b) for a, b in ranges if asserted is not None and a < asserted.stop and b > asserted.start]
    if same:
        return same[0]
    return ranges[-1] if ranges else None


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


def possible_answers(task: Task, example: Example) -> Groups:
    """Return the closed set of possible answers for an example.

    These are its choices if it has any, and otherwise the possible answers of the task.

    If a choice is one of the possible answers of the task, it is returned with all spellings that the task defines.
    """
    if not example.choices:
        return task.possible
    spellings_of = {names[0]: names for names in task.possible}
    return [spellings_of.get(choice, (choice,)) for choice in example.choices]


def asserted_answer(task: Task, example: Example, text: str) -> Asserted | None:
    """Return what a text asserts as its answer, or None if there is nothing.

    If a question has choices other than yes and no (or true and false), and the text asserts none of them, the text is
    read like an answer to an open question.

    The accepted answers are not used, so the exact answer does not depend on them.
    """
    text = text[: own_length(text)]
    kind = task.kind_of(example)
    if kind == "numbers":
        return asserted_number(example.question, text)
    groups = possible_answers(task, example)
    if kind == "choices" or (kind == "names" and example.choices):
        asserted = asserted_choice(text, groups, example.question)
        if asserted is not None or polarity_groups(groups):
            return asserted
    if kind == "names" and not example.choices:
        return asserted_name(text, groups, example.question)
    located = locate_open(example.question, text)
    return None if located is None else Asserted(*located, text[slice(*located)], "what the text adds to the question")


def is_incomplete(task: Task, example: Example, answer: Answer, asserted: Asserted | None) -> bool:
    """Return True if an answer was cut off and its assertion may be incomplete.

    The assertion may be incomplete if the text ends directly after the asserted words, if the text ends with the
    announcement of a result, if it is a calculation with several steps that announces no result, if it lists the
    choices one by one, or if it ends inside the noun phrase that it asserts.

    Parameters
    ----------
    task : Task
    example : Example
    answer : Answer
        The answer without its reasoning; see `Answer.final`.
    asserted : Asserted or None
        The result of `asserted_answer`.
    """
    if answer.stopped:
        return False
    if task.kind_of(example) == "numbers":
        is_announced = asserted is not None and asserted.rule not in ("last result", "first number stated")
        if asserted is not None and not is_announced and continues_steps(answer.text[asserted.stop :]):
            return True
        if announces_result(answer.text) or not (is_announced or len(find_numbers(example.question)) <= _ONE_STEP):
            return True
    if asserted is None:
        return False
    is_listed = asserted.rule in ("first choice asserted", "only letter asserted") and (
        lists_choices(answer.text) or is_plan(answer.text)
    )
    return is_listed or asserted.stop == len(answer.text) or _ends_in_phrase(answer.text, asserted)


def _ends_in_phrase(text: str, asserted: Asserted) -> bool:
    """Return True if a text ends inside the noun phrase in lower case that it asserts ("a character who")."""
    if not isinstance(asserted.value, str) or any(char.isupper() or char.isdigit() for char in asserted.value):
        return False
    rest = text[asserted.stop :]
    is_open = re.search(r"[.,;:!?\n—–)\"]", rest) is None and complete_sentences(text, stopped=False) is None
    return is_open and re.match(r"\s+(?:that|which|who|whose|where|with)\b", rest) is not None


_ONE_STEP = 2
"""Maximum number of numbers in a question that can be answered by a calculation with one step."""


def complete_text(task: Task, example: Example, answer: Answer) -> str | None:
    """Return the part of an answer that can be graded, or None if the answer was cut off before it asserted anything.

    Whether an answer that was cut off is graded must not depend on whether it is correct.  Otherwise, correct answers
    would be kept more often than incorrect ones, and a probe could gain from recognising answers that were cut off.
    The decision therefore does not use the accepted answers.  An answer is graded if it asserts something before the
    cut: a possible answer, a number, or what it adds to an open question.  Otherwise, an answer to an open question is
    graded up to its last complete sentence, and so is an answer to a question with choices that asserts none of them.
    An answer to a yes/no question is graded if it restates the question.  Other answers are not graded.
    """
    if answer.stopped:
        return answer.text
    asserted = asserted_answer(task, example, answer.text)
    if asserted is not None and not is_incomplete(task, example, answer, asserted):
        return answer.text
    kind = task.kind_of(example)
    if kind == "numbers" or (asserted is not None and kind != "open"):
        return None
    if asks_yes_no(possible_answers(task, example)):
        return None if restated(example.question, answer.text) is None else answer.text
    return complete_sentences(answer.text, answer.stopped) if kind == "open" or example.choices else None


def rule_locator(task: Task, example: Example) -> Locator:
    """Return the locator that `locate_answer` uses by default: it finds what the text asserts as its answer."""

    def locate_asserted(question: str, text: str) -> tuple[int, int] | None:
        asserted = asserted_answer(task, example, text)
        return None if asserted is None else (asserted.start, asserted.stop)

    return locate_asserted


def locate_nothing(question: str, text: str) -> tuple[int, int] | None:
    """Return None for each text, so that the map has no columns for the exact answer."""
    return None


RULE_LOCATORS: dict[str, Locator | None] = {"rules": None, "none": locate_nothing}
"""Locators that need no model, by the name of the ``--locator`` option.  None means that `locate` uses the rules."""


def paper_locator(example: Example, correct: bool | None, ordinary: Locator) -> Locator:
    """Return a locator for one example that USES THE ACCEPTED ANSWERS AND THE VERDICT, for comparison only.

    With this locator, the probed token depends on WHETHER THE ANSWER IS CORRECT.  In a correct answer, the locator
    finds the first occurrence of an accepted answer, even if this occurrence is an operand, is negated, or is not the
    answer.  In an incorrect answer, it returns the result of `ordinary`, which follows different rules.  A probe can
    separate correct from incorrect answers by this difference alone, so maps that use this locator must not be reported
    as findings.

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
