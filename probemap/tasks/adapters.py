"""Functions that convert one row of a published data set to an `Example`.

Each public function takes a row with the original fields of a data set.  The cells of the row may have been written by
a spreadsheet; see `cells`.  The function returns None if the row has no answer or if the answer cannot be graded.  If
the row is invalid, it raises KeyError, TypeError, ValueError, IndexError or AttributeError, which
`published.adapt_rows` converts to a DataError.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from probemap.reading.numbers import as_number
from probemap.records import Example
from probemap.tasks.cells import is_punctuation, parse_index, parse_list, parse_texts, parse_truth

Row = Mapping[str, Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a non-empty string, got {value!r:.40}")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    """Convert accepted answers to a tuple of distinct strings in their original order."""
    return tuple(dict.fromkeys(parse_texts(value)))


def _open_example(id_: str, question: str, answers: Any, context: str = "") -> Example | None:
    """Return an example with accepted answers, or None if no accepted answer contains a word or a symbol."""
    texts = _texts(answers)
    return None if is_punctuation(texts) else Example(id_, question, texts, context=context)


def _pick(items: Sequence[Any], value: Any, *, first: int = 0) -> Any:
    """Return the item that a row's label selects, or None if the row has no label."""
    index = parse_index(value, len(items), first=first)
    return None if index is None else items[index]


def _id(row: Row, *fields: str) -> str:
    return next((str(row[field]) for field in fields if row.get(field) not in (None, "")), "")


def _accepted(row: Row, field: str) -> Any:
    """Return a row's accepted answers: the ``answers`` field, as in user files, or `field` (from the original data set)
    if ``answers`` is missing."""
    return row.get("answers") or row[field]


def _as_sentence(question: Any) -> str:
    """Capitalise a search query and add a question mark."""
    text = _text(question)
    return f"{text[:1].upper()}{text[1:].rstrip('?')}?"


def trivia(row: Row) -> Example | None:
    """Convert a row of TriviaQA."""
    answer = _accepted(row, "answer")
    names = [answer["value"], *answer["aliases"]] if isinstance(answer, Mapping) else answer
    return _open_example(_id(row, "id", "question_id"), _text(row["question"]), names)


def nq(row: Row) -> Example | None:
    """Convert a row of NQ-open."""
    return _open_example(_id(row, "id"), _as_sentence(row["question"]), _accepted(row, "answer"))


def popqa(row: Row) -> Example | None:
    """Convert a row of PopQA."""
    return _open_example(_id(row, "id"), _text(row["question"]), _accepted(row, "possible_answers"))


def hotpot(row: Row) -> Example:
    """Convert a row of HotpotQA, without the context."""
    return Example(_id(row, "id"), _text(row["question"]), (_text(row["answer"]),))


def hotpot_with_context(row: Row) -> Example | None:
    """Convert a row of HotpotQA, with its ten pages as the context."""
    pages = zip(row["context"]["title"], row["context"]["sentences"], strict=True)
    context = "\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in pages)
    return replace(hotpot(row), context=context)


def squad(row: Row) -> Example | None:
    """Convert a row of SQuAD."""
    answers = row["answers"]["text"]
    return _open_example(_id(row, "id"), _text(row["question"]), answers, _text(row["context"]))


def _decimal(number: Fraction) -> str:
    """Return a number in decimal notation, or as a fraction if it has no finite one."""
    if number.denominator == 1:
        return str(number.numerator)
    text = f"{float(number):.12g}"
    return text if Fraction(text) == number else str(number)


def _number(row: Row, value: str) -> Example | None:
    number = as_number(value.strip().strip("$"))
    if number is None:
        return None
    question = _text(row.get("question") or row["problem"])
    return Example(_id(row, "id", "unique_id"), question, (_decimal(number),))


def gsm8k(row: Row) -> Example | None:
    """Convert a row of GSM8K."""
    return _number(row, _text(row["answer"]).split("####")[1])


def math(row: Row) -> Example | None:
    """Convert a row of MATH if its answer is a number."""
    answer = row.get("answer")
    if answer is None:  # older releases contain only the solution
        answer = ["", *re.findall(r"\\boxed\{([^{}]*)\}", row["solution"])][-1]
    return _number(row, str(answer))


def answerable_math(row: Row) -> Example | None:
    """Convert a row of UMWP if its question is answerable."""
    return None if parse_truth(row.get("answerable")) is False else _number(row, str(row["answer"]).strip("[] "))


def _lettered(id_: str, question: str, choices: Iterable[str], correct: str) -> Example:
    """Return an example whose choices are shuffled, because some data sets always list the correct choice first.

    The question is used as the random seed.
    """
    shuffled = list(dict.fromkeys(_text(choice) for choice in choices))
    random.Random(question).shuffle(shuffled)
    return Example(id_, _text(question), (_text(correct),), tuple(shuffled))


def truthful(row: Row) -> Example | None:
    """Convert a row of TruthfulQA."""
    choices, labels = (parse_list(row["mc1_targets"][field]) for field in ("choices", "labels"))
    return _lettered(_id(row, "id"), row["question"], choices, choices[labels.index(1)])


def arc(row: Row) -> Example | None:
    """Convert a row of ARC."""
    texts, labels = (parse_list(row["choices"][field]) for field in ("text", "label"))
    return _lettered(_id(row, "id"), row["question"], texts, texts[labels.index(row["answerKey"])])


def mmlu(row: Row) -> Example | None:
    """Convert a row of MMLU."""
    choices = parse_list(row["choices"])
    correct = _pick(choices, row["answer"])
    return None if correct is None else _lettered(_id(row, "id"), row["question"], choices, correct)


def sciq(row: Row) -> Example | None:
    """Convert a row of SciQ."""
    choices = [*(row[f"distractor{i}"] for i in (1, 2, 3)), row["correct_answer"]]
    return _lettered(_id(row, "id"), row["question"], choices, row["correct_answer"])


def sentiment(row: Row) -> Example | None:
    """Convert a row of IMDB or SST-2."""
    text = _text(row.get("text") or row.get("sentence") or row["review"])
    label = parse_list(row["answers"])[0] if "answers" in row else _pick(("negative", "positive"), row["label"])
    if label is None:  # the test split of SST-2 has no labels
        return None
    return Example(_id(row, "id", "idx"), text.replace("<br />", "\n"), (_text(label),), ("positive", "negative"))


_NLI = ("entailment", "neutral", "contradiction")


def mnli(row: Row) -> Example | None:
    """Convert a row of MultiNLI."""
    if "premise" not in row:
        return Example("", _text(row["Question"]), (_text(row["Answer"]),), _NLI)
    label = _pick(_NLI, row["label"])
    if label is None:
        return None
    question = (
        f'For the statement "{_text(row["premise"])}", does the hypothesis "{_text(row["hypothesis"])}" represent '
        "entailment, contradiction, or neutrality?"
    )
    return Example(_id(row, "pairID"), question, (label,), _NLI)


def winogrande(row: Row) -> Example | None:
    """Convert a row of WinoGrande."""
    if "Wrong_Answer" in row:
        return Example(
            "", _text(row["Question"]), (_text(row["Answer"]),), tuple(sorted((row["Answer"], row["Wrong_Answer"])))
        )
    choices = (_text(row["option1"]), _text(row["option2"]))
    correct = _pick(choices, row["answer"], first=1)
    if correct is None:  # the test split has no labels
        return None
    question = f"{_text(row['sentence'])} What does the blank refer to in the sentence?"
    return Example("", question, (correct,), choices)


def winobias(row: Row) -> Example | None:
    """Convert a row of WinoBias."""
    choices = tuple(sorted((_text(row["answer"]), _text(row["incorrect_answer"]))))
    return Example("", f"{_text(row['sentence'])} {_text(row['q_instruct'])}", (_text(row["answer"]),), choices)


def boolq(row: Row) -> Example | None:
    """Convert a row of BoolQ."""
    answer = parse_truth(row["answer"])
    if answer is None:  # the test split has no answers
        return None
    accepted = ("yes" if answer else "no",)
    return Example("", _as_sentence(row["question"]), accepted, ("yes", "no"), _text(row["passage"]))


def movies(row: Row) -> Example | None:
    """Convert a row of Movies."""
    return Example("", _text(row["Question"]), (_text(row["Answer"]),))
