"""Right, wrong, or undecided: verdicts on answers, by rules on the text.

A judge is ``(Task, Example, str) -> Verdict``.  An answer is judged by what it asserts: negations and
refusals never count as correct, and what cannot be decided is an outcome of its own, kept and counted.
"""

from collections.abc import Callable

from probemap.mentions import (
    Groups,
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
from probemap.records import Answer, Example, Kind, Task, Verdict

Judge = Callable[[Task, Example, str], Verdict]

ACCEPTED = Verdict(True, "names an accepted answer")
OTHER = Verdict(False, "names another answer")
NEGATED = Verdict(False, "negates the accepted answer")
NONE = Verdict(False, "names no possible answer")
LACKS = Verdict(False, "lacks every accepted answer")
EMPTY = Verdict(None, "empty")
REFUSES = Verdict(None, "refusal")
SEVERAL = Verdict(None, "several answers, none chosen")
CUT_OFF = Verdict(None, "cut off before an answer")


def possible_answers(task: Task, example: Example) -> Groups:
    """The closed set that this example's answer comes from: its own choices, or the task's.

    A choice that the task knows has all the spellings that the task gives it.
    """
    if not example.choices:
        return task.possible
    known = {names[0]: names for names in task.possible}
    return [known.get(choice, (choice,)) for choice in example.choices]


def is_accepted(example: Example, spellings: Groups, group: int) -> bool:
    """True if one of the group's spellings is an accepted answer."""
    return any(same_name(name, gold) for name in spellings[group] for gold in example.answers)


def judge_names(task: Task, example: Example, text: str) -> Verdict:
    """By the first possible answer that the text asserts."""
    groups = possible_answers(task, example)
    mention = asserted_name(text, groups)
    if mention is not None:
        return ACCEPTED if is_accepted(example, groups, int(mention.value)) else OTHER
    mentions = find_names(text, groups)
    if any(is_negated(text, m) and is_accepted(example, groups, int(m.value)) for m in mentions):
        return NEGATED
    if len({m.value for m in mentions}) > 1:
        return SEVERAL
    return REFUSES if is_refusal(text) else NONE


def judge_choices(task: Task, example: Example, text: str) -> Verdict:
    """By the first lettered choice that the text asserts, by letter or by words."""
    groups = possible_answers(task, example)
    mention = asserted_choice(text, groups)
    if mention is not None:
        return ACCEPTED if is_accepted(example, groups, int(mention.value)) else OTHER
    if len({m.value for m in find_names(text, groups)}) > 1:
        return SEVERAL
    return REFUSES if is_refusal(text) else NONE


def judge_numbers(task: Task, example: Example, text: str) -> Verdict:
    """By the number that the text gives as its result; 7.0 equals 7."""
    mention = asserted_number(example.question, text)
    if mention is None:
        return REFUSES if is_refusal(text) else NONE
    return ACCEPTED if mention.value in {as_number(a) for a in example.answers} else OTHER


def judge_open(task: Task, example: Example, text: str) -> Verdict:
    """By whether an accepted answer stands in the text as whole words and is not negated.

    A date counts in any usual spelling, a number in digits or words.
    """
    spellings = [spelling for answer in example.answers for spelling in (answer, *date_spellings(answer))]
    numbers = {as_number(answer) for answer in example.answers} - {None}
    mentions = [*find_names(text, [spellings]), *(m for m in find_numbers(text) if m.value in numbers)]
    if any(not is_negated(text, m) for m in mentions):
        return ACCEPTED
    if mentions:
        return NEGATED
    return REFUSES if is_refusal(text) else LACKS


JUDGES: dict[Kind, Judge] = {
    "names": judge_names,
    "numbers": judge_numbers,
    "choices": judge_choices,
    "open": judge_open,
}
"""Kind of task -> judge."""


def judge(task: Task, example: Example, answer: Answer) -> Verdict:
    """The verdict on one answer.

    A thinking model's reasoning has no say.  An answer that was cut off at the token limit is undecided unless it had
    asserted something whole by then: what comes after the cut could still have named the answer, or changed its last
    word.
    """
    answer = answer.final
    if not answer.text.strip():
        return EMPTY if answer.stopped else CUT_OFF
    verdict = JUDGES[task.kind](task, example, answer.text)
    if answer.stopped:
        return verdict
    if verdict in (NONE, LACKS, SEVERAL) or is_cut_inside(task, example, answer):
        return CUT_OFF
    return verdict


def is_cut_inside(task: Task, example: Example, answer: Answer) -> bool:
    """True if an answer was cut off where its assertion may go on: inside its last word, or before a result."""
    answer = answer.final
    if answer.stopped or task.kind == "open":
        return False
    if task.kind == "numbers":
        if announces_result(answer.text):
            return True
        mention = asserted_number(example.question, answer.text)
    else:
        asserted = asserted_choice if task.kind == "choices" else asserted_name
        mention = asserted(answer.text, possible_answers(task, example))
    return mention is not None and mention.stop == len(answer.text)
