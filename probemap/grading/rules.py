"""Grade answers as correct, incorrect or undecided by rules on the text.

An answer is graded by what it asserts, so a negated answer or a refusal never counts as correct.  An answer that cannot
be graded is undecided.  Each verdict states its reason in one of a few fixed phrases, so that reasons can be counted.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from probemap.grading.locate import asserted_answer, complete_text, possible_answers
from probemap.reading.accepted import AcceptedMention, AcceptedValues
from probemap.reading.alternatives import follows_another, is_alternative, offered_answers
from probemap.reading.answerless import is_plan, lacks_answer
from probemap.reading.asked import Kind, asked_kind
from probemap.reading.asserted import Asserted, own_length
from probemap.reading.choices import find_letters
from probemap.reading.closed_set import asserted_name, asserted_offer
from probemap.reading.folding import FUNCTION_WORDS, content_words, find_words, same_name, words_of
from probemap.reading.names import LABELS, Groups, find_names
from probemap.reading.numbers import as_number, find_numbers
from probemap.reading.off_topic import adds_words, lacks_asked_kind, repeats_name
from probemap.reading.persons import find_surnames
from probemap.reading.refusal import final_refusal, is_refusal
from probemap.reading.resemblance import resembles
from probemap.reading.results import asserted_number
from probemap.reading.sentences import Mention, complete_sentences, sentences
from probemap.reading.stance import Stance, stances
from probemap.reading.units import unit_of
from probemap.reading.yes_no import asks_yes_no, restated
from probemap.records import Answer, DataError, Example, Task, Verdict

Grader = Callable[[Example, str], Verdict]
"""Callable ``(example, text) -> Verdict`` that grades the final text of an answer."""

ACCEPTED = Verdict(True, "names an accepted answer")
INCORRECT = Verdict(False, "names another answer")
NEGATED = Verdict(False, "negates the accepted answer")
UNNAMED = Verdict(False, "names no possible answer")
ABSENT = Verdict(False, "contains no accepted answer")
COMPARED = Verdict(False, "mentions the accepted answer without asserting it")
EMPTY = Verdict(None, "empty")
SUBORDINATE = Verdict(None, "mentions the accepted answer after another one")
NOTHING_ASSERTED = Verdict(None, "asserts nothing that the question does not say")
OFF_TOPIC = Verdict(None, "names nothing of the kind that the question asks for")
PLANS = Verdict(None, "describes how to find the answer without stating it")
NEITHER = Verdict(None, "asserts neither yes nor no")
LESS_PRECISE = Verdict(None, "less precise than the accepted answer")
RESEMBLES = Verdict(None, "resembles the accepted answer")
OTHER_SCRIPT = Verdict(None, "written in a different script from the accepted answer")
REFUSAL = Verdict(None, "refusal")
AMBIGUOUS = Verdict(None, "several answers, none chosen")
NO_NUMBER = Verdict(None, "states no result")
CUT_OFF = Verdict(None, "cut off before an answer")


def grade(task: Task, answers: Sequence[Answer], *, grader: Grader | None = None) -> list[Verdict]:
    """Grade answers.

    A verdict supplied with an answer is kept.  An empty answer is undecided, and so is a text that the rules do not
    understand.  An answer that was cut off at the token limit is undecided if the text before the cut cannot be graded.
    This decision does not depend on whether the answer is correct (see `complete_text`).

    Parameters
    ----------
    task : Task
    answers : sequence of Answer
        Answers, which are matched to the examples of the task by id.
    grader : callable, optional
        Callable ``(example, text) -> Verdict``, where `text` is the final text of the answer, without reasoning.  If an
        answer was cut off, the callable receives only its complete sentences.  It is not called if there are none, or
        if the answer is empty.  By default, answers are graded by the rules for the kind of each question, which
        consider:

        * ``names`` and ``choices``: the possible answer that the text asserts,
        * ``numbers``: the number that the text states as its result,
        * ``open``: whether the text asserts an accepted answer: a name, a number with or without a unit, or a date.

        Names match regardless of case, accents, punctuation and the division into words.  A mention does not count if
        it is negated, rejected, compared, withdrawn by a correction, or one of several alternatives.

    Returns
    -------
    list of Verdict
        One verdict per answer, in the order of the answers.

    Raises
    ------
    DataError
        If an answer belongs to no example, if a question without accepted answers is to be graded by rules, or if the
        grader does not return a Verdict.

    Examples
    --------
    >>> import probemap
    >>> from probemap import Answer, Example, Task, Verdict
    >>> task = Task("capitals", (Example("a", "What is the capital of Peru?", ("Lima",)),), "open")
    >>> answer = Answer(
    ...     id="a", prompt="Q", text="It is Lima.", token_ids=(0, 1, 2, 3), n_prompt=1,
    ...     offsets=((0, 1), (0, 5), (5, 10), (10, 11)), logprobs=(-0.1, -0.2, -0.3), stopped=True,
    ... )
    >>> [verdict.reason for verdict in probemap.grade(task, [answer])]
    ['names an accepted answer']

    With a user-defined grader:

    >>> def exact_match(example, text):
    ...     return Verdict(text.strip(" .") in example.answers, "exact match")
    >>> [verdict.correct for verdict in probemap.grade(task, [answer], grader=exact_match)]
    [False]
    """
    examples = task.examples_of(answers)
    return [a.verdict or grade_answer(task, e, a, grader) for e, a in zip(examples, answers, strict=True)]


def grade_answer(task: Task, example: Example, answer: Answer, grader: Grader | None = None) -> Verdict:
    """Grade a single answer; see `grade`.  A verdict supplied with the answer is ignored."""
    answer = answer.final
    if not answer.text.strip():
        return EMPTY if answer.stopped else CUT_OFF
    if grader is None and not example.answers:
        raise DataError(
            f"the question {example.id!r} has no accepted answers, so rules cannot grade an answer to it",
            "add 'answers' to the question, or pass a grader",
        )
    text = complete_text(task, example, answer) if grader is None else complete_sentences(answer.text, answer.stopped)
    if text is None:
        return CUT_OFF
    if grader is None:
        return _grade_text(task, example, text)
    verdict = grader(example, text)
    if not isinstance(verdict, Verdict):
        raise DataError(
            f"the grader returned {verdict!r:.60} for the answer {answer.id!r}, expected a Verdict",
            "return probemap.Verdict(correct, reason), with correct=None for undecided",
        )
    return verdict


def rule_grader(task: Task) -> Grader:
    """Return a grader that applies the rules for the kind of each question to a complete text."""
    return lambda example, text: _grade_text(task, example, text)


def is_accepted(example: Example, spellings: Sequence[str]) -> bool:
    """Return True if one of the spellings is an accepted answer."""
    return any(same_name(spelling, accepted) for spelling in spellings for accepted in example.answers)


def _grade_text(task: Task, example: Example, text: str) -> Verdict:
    text = text[: own_length(text)]
    if not text.strip():
        return EMPTY
    kind = task.kind_of(example)
    if kind == "open":
        return _grade_open(example, text)
    asserted = asserted_answer(task, example, text)
    if kind == "numbers":
        return _grade_number(example, text, asserted)
    return _grade_closed(example, text, possible_answers(task, example), asserted)


def _grade_number(example: Example, text: str, asserted: Asserted | None) -> Verdict:
    """Grade a text by the number that it states as its result."""
    if asserted is None:
        return _refusal(text) or NO_NUMBER
    values = {as_number(answer) for answer in example.answers}
    # In some languages, the point in 8.849 separates thousands.
    grouped = re.fullmatch(r"\d{1,3}\.\d{3}", text[asserted.start : asserted.stop])
    is_correct = asserted.value in values or (grouped is not None and asserted.value * 1000 in values)
    return _because(ACCEPTED if is_correct else INCORRECT, asserted, asserted.rule)


def _grade_closed(example: Example, text: str, groups: Groups, asserted: Asserted | None) -> Verdict:
    """Grade a text by the possible answer that it asserts."""
    if asks_yes_no(groups) and is_refusal(text) and not re.match(r"\W*(?:yes|no)\b\W*[,.:;!]", text, re.IGNORECASE):
        return _refusal(text) or REFUSAL
    if asserted is not None and isinstance(asserted.value, int):
        verdict = ACCEPTED if is_accepted(example, groups[asserted.value]) else INCORRECT
        return _because(verdict, asserted, asserted.rule)
    if asks_yes_no(groups):
        is_restated = restated(example.question, text)
        if is_restated is not None:
            verdict = ACCEPTED if is_accepted(example, ("yes",) if is_restated else ("no",)) else INCORRECT
            return replace(verdict, rule="question restated", evidence=sentences(text)[0])
    names = find_names(text, groups)
    with_stances = list(zip(names, stances(text, names), strict=True))
    negated = (n for n, stance in with_stances if stance is Stance.NEGATED and is_accepted(example, groups[n.group]))
    if len(groups) > 2 and (name := next(negated, None)) is not None:
        return _because(NEGATED, name, "negated")
    mentions = sorted((*find_letters(text, len(example.choices)), *names), key=lambda name: name.start)
    if len({name.group for name in mentions}) > 1:
        return replace(AMBIGUOUS, rule="several mentions", evidence=(mentions[0].start, mentions[-1].stop))
    if (refusal := _refusal(text)) is not None:
        return refusal
    if all(name.casefold() in LABELS for names in groups for name in names):
        return NEITHER
    if is_plan(text):
        return PLANS
    if (lack := lacks_answer(example.question, text)) is not None:
        return Verdict(None, lack.value)
    if asserted is not None:
        return _because(UNNAMED, asserted, asserted.rule)
    return UNNAMED if adds_words(example.question, text) else NOTHING_ASSERTED


def _because(verdict: Verdict, mention: Mention, rule: str) -> Verdict:
    """Add to a verdict the part of the text that decided it, and the rule that found this part."""
    return replace(verdict, rule=rule, evidence=(mention.start, mention.stop))


def _grade_open(example: Example, text: str) -> Verdict:
    """Grade a text by whether it asserts an accepted answer: a name, a number with or without a unit, or a date."""
    if all(answer.casefold().strip(".") in LABELS for answer in example.answers):
        groups = _YES_NO if _is_yes_no(example) else _TRUE_FALSE
        return _grade_closed(example, text, groups, asserted_name(text, groups))
    offered = offered_answers(example.question)
    if offered and any(is_accepted(example, names) for names in offered):
        verdict = _grade_closed(example, text, offered, asserted_offer(example.question, text, offered))
        return AMBIGUOUS if verdict == UNNAMED else verdict  # the text may name one in a different form
    if (lack := lacks_answer(example.question, text)) is not None:
        return Verdict(None, lack.value)
    unasked = _unasked(example)
    values = AcceptedValues.of(unasked)
    mentions = _answering_mentions(example, text, values)
    with_stances = list(zip(mentions, stances(text, mentions), strict=True))
    if asserted_mentions := [mention for mention, stance in with_stances if stance is Stance.ASSERTED]:
        if all(is_alternative(text, m.start, m.stop) for m in asserted_mentions):
            return _because(AMBIGUOUS, asserted_mentions[0], "one of several alternatives")
        leading = (m for m in asserted_mentions if not follows_another(example.question, text, m.start))
        if (mention := next(leading, None)) is None:
            return _because(SUBORDINATE, asserted_mentions[0], "after another name")
        if _states_another_number(example.question, text, asserted_mentions):
            return _because(SUBORDINATE, asserted_mentions[0], "after another number")
        return _because(ACCEPTED, mention, "accepted answer asserted")
    for stance, verdict in _WITHOUT_ASSERTION.items():
        if mention := next((mention for mention, s in with_stances if s is stance), None):
            return _because(verdict, mention, stance.value)
    if (refusal := _refusal(text)) is not None:
        return refusal
    if values.is_less_precise(text):
        return LESS_PRECISE
    if not adds_words(example.question, text):
        return NOTHING_ASSERTED
    if lacks_asked_kind(example.question, text):
        return OFF_TOPIC
    if resembles(text, unasked):
        return RESEMBLES
    return ABSENT if _shares_script(example.answers, text) else OTHER_SCRIPT


_WITHOUT_ASSERTION = {
    Stance.LISTED: AMBIGUOUS,
    Stance.NEGATED: NEGATED,
    Stance.WITHDRAWN: NEGATED,
    Stance.ASIDE: SUBORDINATE,
    Stance.COMPARED: COMPARED,
    Stance.DOUBTED: COMPARED,
}
"""Verdicts on a text that mentions an accepted answer without asserting it, by the stance towards the mention.  The
first stance that occurs decides."""


def _states_another_number(question: str, text: str, mentions: Sequence[Mention]) -> bool:
    """Return True if all mentions are numbers, and the text states another number as its answer before them."""
    numbers = {(number.start, number.stop) for number in find_numbers(text) if not number.is_ordinal}
    if not all((mention.start, mention.stop) in numbers for mention in mentions):
        return False
    stated = asserted_number(question, text)
    return stated is not None and all(stated.start < mention.start for mention in mentions)


def _answering_mentions(example: Example, text: str, values: AcceptedValues) -> list[AcceptedMention]:
    """Return the mentions of accepted answers in a text, except mentions that repeat the question."""
    question = example.question
    if any(same_name(text, answer) for answer in example.answers if len(text) <= 2 * len(answer) + _MARKS):
        return [AcceptedMention(0, len(text.rstrip()))]
    mentions = values.find(text)
    if not mentions and repeats_name(question, text):
        mentions = AcceptedValues.of(example.answers).find(text[: sentences(text)[0][1]])
    if not mentions and asked_kind(question) is Kind.PERSON:
        mentions = [AcceptedMention(*span) for span in find_surnames(text, values.names)]
    return [m for m in mentions if not (_repeats_quantity(question, text, m) or _repeats_words(question, text, m))]


_MARKS = 20
"""Maximum number of characters by which marks around a name and its other spellings make it longer."""


def _repeats_words(question: str, text: str, mention: Mention) -> bool:
    """Return True if the mention, with the two words before it, also occurs in the question."""
    words = [word.text for word in words_of(text[max(0, mention.start - 60) : mention.stop])]
    n_mentioned = len(words_of(text[mention.start : mention.stop]))
    repeated = words[-n_mentioned - 2 :]
    asked = [word.text for word in words_of(question)]
    return any(asked[i : i + len(repeated)] == repeated for i in range(len(asked) - len(repeated) + 1))


def _repeats_quantity(question: str, text: str, mention: Mention) -> bool:
    """Return True if a mention is a number whose unit follows, and the question contains both ("in one inch")."""
    if unit_of(text, mention.start, mention.stop) is None:
        return False
    unit = next(iter(words_of(text[mention.stop : mention.stop + 30])), None)
    return unit is not None and find_words(question, text[mention.start : mention.stop + unit.stop]) is not None


def _unasked(example: Example) -> tuple[str, ...]:
    """Return the accepted answers that the question does not contain, or all accepted answers if it contains them all.

    Accepted answers in the question are ignored because a text may repeat the question without answering it.
    """
    asked = FUNCTION_WORDS.union(word.text for word in words_of(example.question))
    unasked = tuple(answer for answer in example.answers if not asked.issuperset(content_words(answer)))
    return unasked or tuple(example.answers)


_YES_NO: Groups = (("yes",), ("no",))
_TRUE_FALSE: Groups = (("true",), ("false",))


def _is_yes_no(example: Example) -> bool:
    return example.answers[0].casefold().strip(".") in ("yes", "no")


def _refusal(text: str) -> Verdict | None:
    """Return the verdict on a refusal, with the words that decline as its evidence, or None if there is no refusal."""
    words = final_refusal(text)
    return None if words is None else replace(REFUSAL, rule="declines to answer", evidence=words)


def _shares_script(answers: Sequence[str], text: str) -> bool:
    """Return True if an accepted answer and the text share a script, or if an accepted answer contains no letters."""
    if text.isascii() and any(answer.isascii() for answer in answers):
        return True
    scripts = _scripts(text)
    return any(not found or found & scripts for found in map(_scripts, answers))


def _scripts(text: str) -> set[str]:
    return {unicodedata.name(char, "?").split()[0] for char in text if char.isalpha()}
