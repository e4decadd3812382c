"""Grade answers as correct, incorrect or undecided by rules on the text.

An answer is graded by what it asserts: a negated answer or a refusal never counts as correct.  An answer that cannot be
graded is undecided.  Each verdict states its reason in one of a few fixed phrases, so that reasons can be counted.
"""

from collections.abc import Callable, Sequence

from probemap.mentions import (
    Groups,
    Mention,
    announces_result,
    as_number,
    asserted_choice,
    asserted_name,
    asserted_number,
    date_spellings,
    find_names,
    find_numbers,
    is_negated,
    is_refusal,
    same_name,
)
from probemap.records import Answer, DataError, Example, Task, Verdict

Grader = Callable[[Example, str], Verdict]
"""Callable ``(example, text) -> Verdict`` that grades the final text of an answer."""

ACCEPTED = Verdict(True, "names an accepted answer")
INCORRECT = Verdict(False, "names another answer")
NEGATED = Verdict(False, "negates the accepted answer")
UNNAMED = Verdict(False, "names no possible answer")
ABSENT = Verdict(False, "contains no accepted answer")
EMPTY = Verdict(None, "empty")
REFUSAL = Verdict(None, "refusal")
AMBIGUOUS = Verdict(None, "several answers, none chosen")
CUT_OFF = Verdict(None, "cut off before an answer")


def grade(task: Task, answers: Sequence[Answer], *, grader: Grader | None = None) -> list[Verdict]:
    """Grade answers.

    A verdict supplied with an answer is kept.  An empty answer is undecided.  An answer that was cut off at the token
    limit is undecided unless it is already correct or asserts a complete answer, because the missing text could have
    named the correct answer.

    Parameters
    ----------
    task : Task
    answers : sequence of Answer
        Answers, which are matched to the examples of the task by id.
    grader : callable, optional
        Callable ``(example, text) -> Verdict``, where `text` is the final text of the answer, without reasoning.  It is
        not called for empty answers.  By default, answers are graded by the rules for the kind of the task, which
        consider:

        * ``names`` and ``choices``: the first possible answer that the text asserts,
        * ``numbers``: the number that the text gives as its result,
        * ``open``: whether the text contains an accepted answer that is not negated.

    Returns
    -------
    list of Verdict
        One verdict per answer, in the order of the answers.

    Raises
    ------
    DataError
        If an answer belongs to no example, an example without accepted answers has to be graded by rules, or the grader
        does not return a Verdict.

    Examples
    --------
    >>> import probemap
    >>> from probemap import Answer, Example, Task, Verdict
    >>> task = Task("capitals", (Example("a", "What is the capital of Peru?", ("Lima",)),), "open")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="It is Lima.", token_ids=(0, 1, 2, 3), n_prompt=1,
    ...     offsets=((0, 1), (0, 5), (5, 10), (10, 11)), logprobs=(-0.1, -0.2, -0.3), stopped=True,
    ... )
    >>> probemap.grade(task, [answer])
    [Verdict(correct=True, reason='names an accepted answer')]

    With a user-defined grader:

    >>> def exact_match(example, text):
    ...     return Verdict(text.strip(" .") in example.answers, "exact match")
    >>> probemap.grade(task, [answer], grader=exact_match)
    [Verdict(correct=False, reason='exact match')]
    """
    examples = examples_of(task, answers)
    return [a.verdict or grade_answer(task, e, a, grader) for e, a in zip(examples, answers, strict=True)]


def examples_of(task: Task, answers: Sequence[Answer]) -> list[Example]:
    """Return the example to which each answer belongs.

    Raises
    ------
    DataError
        If the id of an answer is not in the task.
    """
    example_of = {e.id: e for e in task.examples}
    if unknown := [a.id for a in answers if a.id not in example_of]:
        raise DataError(
            f"{len(unknown)} of {len(answers)} answers belong to no example of the task {task.name!r}; "
            f"the first one has the id {unknown[0]!r}",
            "pass the task whose questions were answered",
        )
    return [example_of[a.id] for a in answers]


def grade_answer(task: Task, example: Example, answer: Answer, grader: Grader | None = None) -> Verdict:
    """Grade a single answer; see `grade`.  A verdict supplied with the answer is ignored."""
    answer = answer.final
    if not answer.text.strip():
        return EMPTY if answer.stopped else CUT_OFF
    if grader is not None:
        verdict = grader(example, answer.text)
        if not isinstance(verdict, Verdict):
            raise DataError(
                f"the grader returned {verdict!r:.60} for the answer {answer.id!r}, expected a Verdict",
                "return probemap.Verdict(correct, reason), with correct=None for undecided",
            )
        return verdict if answer.stopped or verdict.correct is not False else CUT_OFF
    if not example.answers:
        raise DataError(
            f"the question {example.id!r} has no accepted answers, so rules cannot grade an answer to it",
            "add 'answers' to the question, or pass a grader",
        )
    mention = asserted_mention(task, example, answer.text)
    verdict = _grade_text(task, example, answer.text, mention)
    if not answer.stopped and (verdict in (UNNAMED, ABSENT, AMBIGUOUS) or is_incomplete(task, answer, mention)):
        return CUT_OFF
    return verdict


def rule_grader(task: Task) -> Grader:
    """Return a grader that applies the rules for the kind of the task to a complete text."""
    return lambda example, text: _grade_text(task, example, text, asserted_mention(task, example, text))


def possible_answers(task: Task, example: Example) -> Groups:
    """Return the closed set of possible answers for an example.

    These are its choices if it has any, and otherwise the possible answers of the task.

    If a choice is one of the possible answers of the task, it is returned with all spellings that the task defines.
    """
    if not example.choices:
        return task.possible
    spellings_of = {names[0]: names for names in task.possible}
    return [spellings_of.get(choice, (choice,)) for choice in example.choices]


def asserted_mention(task: Task, example: Example, text: str) -> Mention | None:
    """Return the mention that a text asserts as its answer, or None if there is none or the kind of the task is
    ``open``."""
    if task.kind == "names":
        return asserted_name(text, possible_answers(task, example))
    if task.kind == "choices":
        return asserted_choice(text, possible_answers(task, example))
    return asserted_number(example.question, text) if task.kind == "numbers" else None


def is_incomplete(task: Task, answer: Answer, mention: Mention | None) -> bool:
    """Return True if an answer was cut off where its assertion may be incomplete.

    This is the case directly after the asserted words, or before a result that the text announces.

    Parameters
    ----------
    task : Task
    answer : Answer
        The answer without its reasoning; see `Answer.final`.
    mention : Mention or None
        The result of `asserted_mention`.
    """
    if answer.stopped:
        return False
    if task.kind == "numbers" and announces_result(answer.text):
        return True
    return mention is not None and mention.stop == len(answer.text)


def is_accepted(example: Example, spellings: Sequence[str]) -> bool:
    """Return True if one of the spellings is an accepted answer."""
    return any(same_name(spelling, accepted) for spelling in spellings for accepted in example.answers)


def _grade_text(task: Task, example: Example, text: str, mention: Mention | None) -> Verdict:
    if task.kind == "open":
        return _grade_open(example, text)
    if task.kind == "numbers":
        if mention is None:
            return REFUSAL if is_refusal(text) else UNNAMED
        return ACCEPTED if mention.value in {as_number(a) for a in example.answers} else INCORRECT
    groups = possible_answers(task, example)
    if mention is not None:
        return ACCEPTED if is_accepted(example, groups[int(mention.value)]) else INCORRECT
    mentions = find_names(text, groups)
    if task.kind == "names" and any(
        is_negated(text, m) and is_accepted(example, groups[int(m.value)]) for m in mentions
    ):
        return NEGATED
    if len({m.value for m in mentions}) > 1:
        return AMBIGUOUS
    return REFUSAL if is_refusal(text) else UNNAMED


def _grade_open(example: Example, text: str) -> Verdict:
    """Grade a text as correct if it contains an accepted answer as whole words that are not negated.

    Dates match in any common format, and numbers match whether they are written in digits or in words.
    """
    spellings = [spelling for answer in example.answers for spelling in (answer, *date_spellings(answer))]
    numbers = {as_number(answer) for answer in example.answers} - {None}
    mentions = [*find_names(text, [spellings]), *(m for m in find_numbers(text) if m.value in numbers)]
    if any(not is_negated(text, m) for m in mentions):
        return ACCEPTED
    if mentions:
        return NEGATED
    return REFUSAL if is_refusal(text) else ABSENT
