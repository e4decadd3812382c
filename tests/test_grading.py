"""Verdicts and exact answers of worked cases, and the public functions `grade` and `locate`."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

import probemap
from probemap import Span, Verdict
from probemap.grading.llm import LLMJudge, llm_grader, llm_locator
from probemap.grading.locate import locate_answer, locate_nothing, paper_locator, rule_locator
from probemap.grading.rules import ACCEPTED, CUT_OFF, EMPTY, grade_answer
from probemap.models.model import Model
from probemap.reading.folding import find_words, fold
from probemap.reading.names import find_names
from probemap.reading.results import asserted_number
from probemap.records import DataError, Example, Kind, Task
from probemap.tasks.loading import load_task

CITIES = load_task("cities")
COUNTRIES = CITIES.possible


def verdict_and_exact(task: Task, example: Example, text: str, *, stopped: bool = True) -> tuple[str, str | None]:
    answer = make_answer(text, list(text), ["?"], stopped=stopped)
    span, _ = locate_answer(task, example, answer)
    verdict = grade_answer(task, example, answer)
    word = {True: "correct", False: "incorrect", None: "undecided"}[verdict.correct]
    return f"{word}: {verdict.reason}", span.text if span else None


def country(*answers: str) -> Example:
    return Example("x", "In which country is the city of X?", answers)


@pytest.mark.parametrize(
    ("gold", "text", "verdict", "exact"),
    [
        ("Oman", "X is in Romania.", "incorrect: names another answer", "Romania"),
        ("Niger", "X is in Nigeria.", "incorrect: names another answer", "Nigeria"),
        ("Guinea", "X is in Guinea-Bissau.", "incorrect: names another answer", "Guinea-Bissau"),
        ("Guinea", "It lies in Papua New Guinea", "incorrect: names another answer", "Papua New Guinea"),
        ("Sudan", "South Sudan.", "incorrect: names another answer", "South Sudan"),
        ("Ivory Coast", "in Côte d’Ivoire.", "correct: names an accepted answer", "Côte d’Ivoire"),
        ("Ivory Coast", "in COTE D'IVOIRE.", "correct: names an accepted answer", "COTE D'IVOIRE"),
        ("United States", "in the U.S. state of Texas", "correct: names an accepted answer", "U.S"),
        ("United States", "in the United\nStates.", "correct: names an accepted answer", "United\nStates"),
        ("United States", "It belongs to us.", "incorrect: names no possible answer", None),
        ("France", "It is not in Spain, it is in France.", "correct: names an accepted answer", "France"),
        ("France", "It is not in France.", "incorrect: negates the accepted answer", None),
        ("France", "It isn't in the country of France.", "incorrect: negates the accepted answer", None),
        ("France", "It is in Spain rather than France.", "incorrect: names another answer", "Spain"),
        ("France", "It is not only in France.", "correct: names an accepted answer", "France"),
        ("France", "It is in either France or Spain.", "undecided: several answers, none chosen", None),
        ("France", "Spain or France", "undecided: several answers, none chosen", None),
        ("France", "Of Spain or Italy? No: in France.", "correct: names an accepted answer", "France"),
        ("France", "Spain, near France", "incorrect: names another answer", "Spain"),
        ("France", "I don't know.", "undecided: refusal", None),
        ("France", "I'm sorry, but I cannot say.", "undecided: refusal", None),
        ("France", "", "undecided: empty", None),
        ("France", " \n", "undecided: empty", None),
        ("France", "In Europe.", "incorrect: names no possible answer", None),
        ("France", "**France**", "correct: names an accepted answer", "France"),
        ("Turkey", "Türkiye", "correct: names an accepted answer", "Türkiye"),
        ("Netherlands", "in the Netherlands.", "correct: names an accepted answer", "Netherlands"),
        ("Malaysia", "in the Malaysian state of Johor.", "correct: names an accepted answer", "Malaysian"),
        ("Pakistan", "in the Indian state of Punjab.", "incorrect: names another answer", "Indian"),
        ("Canada", "in the Canadian province of Quebec, Canada.", "correct: names an accepted answer", "Canada"),
        ("India", "on the Indian Ocean.", "incorrect: names no possible answer", None),
        ("Gambia", "in The Gambia", "correct: names an accepted answer", "Gambia"),
    ],
)
def test_grade_names_of_countries(gold: str, text: str, verdict: str, exact: str | None) -> None:
    accepted = next(names for names in COUNTRIES if gold in names)
    assert verdict_and_exact(CITIES, country(*accepted), text) == (verdict, exact)


@pytest.mark.parametrize(
    ("text", "verdict", "exact"),
    [
        ("Egypt, because it is home to more people than Iceland.", "correct: names an accepted answer", "Egypt"),
        ("Iceland, because it is home to more people.", "incorrect: names another answer", "Iceland"),
        ("Between Iceland and Egypt, Egypt has more.", "correct: names an accepted answer", "Egypt"),
        ("Both Iceland and Egypt are countries.", "undecided: several answers, none chosen", None),
        ("Ethiopia, because it is home to more people than Egypt.", "incorrect: names no possible answer", None),
        ("It is smaller than Egypt: Iceland.", "incorrect: names another answer", "Iceland"),
        ("Norway.", "incorrect: names no possible answer", None),
    ],
)
def test_grade_names_takes_first_mention(text: str, verdict: str, exact: str | None) -> None:
    example = Example("x", "Which has more inhabitants, Iceland or Egypt?", ("Egypt",), ("Iceland", "Egypt"))
    assert verdict_and_exact(load_task("compare"), example, text) == (verdict, exact)


@pytest.mark.parametrize(
    ("question", "gold", "text", "verdict", "exact"),
    [
        (
            "What is 9 + 8?",
            "17",
            "To add 9 and 8, you add them: 9 + 8 = 17.",
            "correct: names an accepted answer",
            "17",
        ),
        ("What is 9 + 8?", "17", "9 + 8 is 16", "incorrect: names another answer", "16"),
        ("What is 9 + 8?", "17", "seventeen", "correct: names an accepted answer", "seventeen"),
        ("What is 9 + 8?", "17", "The answer is Seventeen.", "correct: names an accepted answer", "Seventeen"),
        ("What is 20 + 1?", "21", "twenty-one", "correct: names an accepted answer", "twenty-one"),
        ("What is 7 + 0?", "7", "7", "correct: names an accepted answer", "7"),
        ("What is 7 + 0?", "7", "7 + 0 = 7", "correct: names an accepted answer", "7"),
        (
            "What is 2 times 8?",
            "16",
            "2 * 8 = 16\n\nA simple way to multiply by 2.",
            "correct: names an accepted answer",
            "16",
        ),
        ("What is 30 times 40?", "1200", "It is 1,200.", "correct: names an accepted answer", "1,200"),
        ("What is half of 7?", "3.5", "Half of 7 is 3.5.", "correct: names an accepted answer", "3.5"),
        ("What is half of 14?", "7", "Half of 14 is 7.0", "correct: names an accepted answer", "7.0"),
        ("What is 3 - 5?", "-2", "3 - 5 = -2", "correct: names an accepted answer", "-2"),
        (
            "What is 9 - 8?",
            "1",
            "The difference between 9 and 8 is 9 -",
            "undecided: states no result",
            None,
        ),
        ("How much?", "18", "#### 18", "correct: names an accepted answer", "18"),
        ("What is 9 + 8?", "17", "It is not 17.", "undecided: states no result", None),
        (
            "How many?",
            "120",
            "It is one hundred and twenty.",
            "correct: names an accepted answer",
            "one hundred and twenty",
        ),
        ("How many?", "25", "It is twenty five.", "correct: names an accepted answer", "twenty five"),
        ("How many?", "1200000", "About 1.2 million people.", "correct: names an accepted answer", "1.2 million"),
        ("How many?", "1200000", "About 1 200 000 people.", "correct: names an accepted answer", "1 200 000"),
        ("How cold?", "-5", "It dropped to -5 degrees.", "correct: names an accepted answer", "-5"),
        ("How cold?", "-5", "The answer is **-5**.", "correct: names an accepted answer", "-5"),
        ("How much?", "0.5", "It is .5", "correct: names an accepted answer", ".5"),
        ("How many?", "7", "I would guess seven, one of the primes.", "correct: names an accepted answer", "seven"),
        (
            "What is 46 + 14?",
            "60",
            "Add them. The sum of 46 and 14 is",
            "undecided: states no result",
            None,
        ),
        ("What is 9 + 8?", "17", "They are both odd.", "undecided: states no result", None),
        ("What is 9 + 8?", "17", "9 + 8 = 1.7e3", "incorrect: names another answer", "1.7e3"),
    ],
)
def test_grade_numbers(question: str, gold: str, text: str, verdict: str, exact: str | None) -> None:
    task = Task("sums", (), "numbers")
    assert verdict_and_exact(task, Example("x", question, (gold,)), text) == (verdict, exact)


@pytest.mark.parametrize(
    ("text", "verdict", "exact"),
    [
        ("It was Mark Twain.", "correct: names an accepted answer", "Mark Twain"),
        ("The answer is not Mark Twain.", "incorrect: negates the accepted answer", None),
        ("Mark Twainson", "incorrect: contains no accepted answer", "Mark Twainson"),
        ("Samuel L. Clemens, of course", "correct: names an accepted answer", "Samuel L. Clemens"),
        ("I do not know.", "undecided: refusal", None),
    ],
)
def test_grade_open_by_alias(text: str, verdict: str, exact: str | None) -> None:
    example = Example("x", "Who wrote it?", ("Mark Twain", "Samuel L. Clemens"))
    assert verdict_and_exact(Task("open", (), "open"), example, text) == (verdict, exact)


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("July 4, 1776", "It was signed on the 4th of July, 1776.", "correct: names an accepted answer"),
        ("4 July 1776", "On July 4th, 1776.", "correct: names an accepted answer"),
        ("1776-07-04", "4 July 1776", "correct: names an accepted answer"),
        ("July 4, 1776", "1776-07-04", "correct: names an accepted answer"),
        ("July 4, 1776", "July 5, 1776", "incorrect: contains no accepted answer"),
        ("July 4, 1776", "in July 1776", "undecided: less precise than the accepted answer"),
        ("July 4, 1776", "not on 4 July 1776", "incorrect: negates the accepted answer"),
        ("1776-13-04", "13 April 1776", "incorrect: contains no accepted answer"),
        ("3", "There are three of them.", "correct: names an accepted answer"),
        ("three", "3.", "correct: names an accepted answer"),
        ("3,000", "about 3000 people", "correct: names an accepted answer"),
        ("12", "in 1912, 120 of them", "incorrect: contains no accepted answer"),
        ("5", "There are not five.", "incorrect: negates the accepted answer"),
        ("Mark Twain", "```\nMark Twain\n```", "correct: names an accepted answer"),
        ("Mark Twain", "It was **Mark** Twain.", "correct: names an accepted answer"),
        ("Mark Twain", "The answer is not Mark Twain.", "incorrect: negates the accepted answer"),
    ],
)
def test_grade_open_dates_numbers_and_markdown(gold: str, text: str, verdict: str) -> None:
    task = Task("open", (), "open")
    assert verdict_and_exact(task, Example("x", "q?", (gold,)), text)[0] == verdict


@pytest.mark.parametrize(
    ("text", "verdict", "exact"),
    [
        ("B", "correct: names an accepted answer", "B"),
        ("(B)", "correct: names an accepted answer", "B"),
        ("B) Paris", "correct: names an accepted answer", "B) Paris"),
        ("**B. Paris**", "correct: names an accepted answer", "B. Paris"),
        ("The correct answer is (B) Paris, because …", "correct: names an accepted answer", "B) Paris"),
        ("The answer is:\nB", "correct: names an accepted answer", "B"),
        ("Answer: C", "incorrect: names another answer", "C"),
        ("Option B is right.", "correct: names an accepted answer", "B"),
        ("I think it is Paris.", "correct: names an accepted answer", "Paris"),
        ("It is not A) Rome but B) Paris.", "correct: names an accepted answer", "B) Paris"),
        ("A) Rome\nB) Paris\nC) A plant\nThe answer is B", "correct: names an accepted answer", "B"),
        ("The answer is A plant.", "incorrect: names another answer", "plant"),
        ("A river runs through it.", "incorrect: names no possible answer", None),
        ("B) Rome", "undecided: several answers, none chosen", "B) Rome"),
        ("Either Rome or Paris.", "undecided: several answers, none chosen", None),
        ("Not B.", "incorrect: names no possible answer", None),
        ("I don't know.", "undecided: refusal", None),
        ("E) none", "incorrect: names no possible answer", "E) none"),
    ],
)
def test_grade_choices(text: str, verdict: str, exact: str | None) -> None:
    task = Task("choices", (), "choices")
    example = Example("x", "What is the capital of France?", ("Paris",), ("Rome", "Paris", "A plant"))
    assert verdict_and_exact(task, example, text) == (verdict, exact)


def test_grade_cut_off_answer_is_undecided_unless_complete() -> None:
    france = country("France")
    assert verdict_and_exact(CITIES, france, "It is in a region", stopped=False) == (
        "undecided: cut off before an answer",
        None,
    )
    assert verdict_and_exact(CITIES, france, "It is in Guinea", stopped=False) == (
        "undecided: cut off before an answer",
        None,
    ), "it could have gone on: Guinea-Bissau"
    assert verdict_and_exact(CITIES, france, "It is in France, near", stopped=False) == (
        "correct: names an accepted answer",
        "France",
    )


def test_locate_does_not_depend_on_accepted_answers() -> None:
    text = "It is in Spain, not France; I mean Italy."  # a correction counts
    located = {verdict_and_exact(CITIES, country(gold), text)[1] for gold in ("Spain", "France", "Italy", "Peru")}
    assert located == {"Italy"}


@pytest.mark.parametrize(
    ("kind", "gold", "text", "ordinary", "paper"),
    [
        ("names", ("France",), "It is not in France's east; it is in France.", (37, 43), (13, 19)),
        ("names", ("Italy",), "Unlike Italy, France is not, but Italy is.", (33, 38), (7, 12)),
        ("names", ("Italy",), "Paris, not Spain: in Italy, yes, Italy.", (21, 26), (21, 26)),
        ("names", ("Ivory Coast",), "In Côte d’Ivoire, the Ivory Coast.", (3, 16), (22, 33)),
        ("names", ("Ivory Coast",), "In Côte d’Ivoire.", (3, 16), (3, 16)),
        ("names", ("Ivory Coast", "Côte d'Ivoire"), "COTE D'IVOIRE, the Ivory Coast", (0, 13), (0, 13)),
        ("names", ("France",), "It is not in France, it is in Spain.", (30, 35), (30, 35)),
        ("names", ("France",), "France or Spain", None, None),
        ("numbers", ("7",), "7 + 0 = 7", (8, 9), (0, 1)),
        ("numbers", ("7",), "17 - 10 = 7", (10, 11), (10, 11)),
        ("numbers", ("17",), "It is seventeen.", (6, 15), (6, 15)),
        ("numbers", ("7",), "7 + 0 = 8", (8, 9), (8, 9)),
    ],
)
def test_paper_locator_uses_first_accepted_answer_in_correct_answers_only(
    kind: Kind, gold: tuple[str, ...], text: str, ordinary: tuple[int, int] | None, paper: tuple[int, int] | None
) -> None:
    task = CITIES if kind == "names" else Task("sums", (), "numbers")
    example = Example("x", "What is it?", gold)
    locator = rule_locator(task, example)
    verdict = grade_answer(task, example, make_answer(text, list(text), ["?"]))
    assert locator(example.question, text) == ordinary
    assert paper_locator(example, verdict.correct, locator)(example.question, text) == paper


def test_paper_locator_prefers_earliest_then_first_listed_answer() -> None:
    def characters(*gold: str) -> tuple[int, int] | None:
        locator = paper_locator(Example("x", "?", gold), True, locate_nothing)
        return locator("?", "Mark Twain, born Clemens")

    assert characters("Clemens", "Mark Twain") == (0, 10)
    assert characters("Mark", "Mark Twain") == (0, 4)
    assert characters("Mark Twain", "Mark") == (0, 10)
    assert characters("Marc", "Twai") is None, "parts of words do not count"


def test_find_words_matches_whole_words_only() -> None:
    assert find_words("It was William Shakespeare.", " william shakespeare. ") == (7, 26)
    assert find_words("It was in Romania.", "Oman") is None
    assert find_words("Oman is not in Romania; Oman", "roman") is None
    assert find_words("It was he.", "NO ANSWER") is None
    assert find_words("It was he.", '"."') is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_find_names_in_any_context(before: str, after: str) -> None:
    text = f"{before} Austria {after}"
    start = len(before) + 1
    assert any(m.start == start and text[m.start : m.stop] == "Austria" for m in find_names(text, [("Austria",)]))


@given(st.text(max_size=60))
def test_fold_maps_every_character_to_its_origin(text: str) -> None:
    folded, origin = fold(text)
    assert len(folded) == len(origin)
    assert origin == sorted(origin)
    assert all(0 <= i < len(text) for i in origin)


@given(st.text(max_size=60))
def test_grade_and_locate_accept_any_text(text: str) -> None:
    word, exact = verdict_and_exact(CITIES, country("France"), text)
    assert word.split(":")[0] in ("correct", "incorrect", "undecided")
    assert exact is None or exact in text
    mention = asserted_number("What is 1 + 1?", text)
    assert mention is None or text[mention.start : mention.stop]


# --- the public functions ---

TASK = Task("t", (Example("a", "Where is Rome?", ("Italy",)), Example("b", "Where is Lima?", ("Peru",))), "open")
ANSWERS = [
    make_answer("In Peru.", ["In", " Peru", "."], ["?"], id_="b"),
    make_answer("In Spain.", ["In", " Spain", "."], ["?"], id_="a"),
]
ROME, LIMA = TASK.examples


def test_grade_matches_answers_by_id_and_keeps_supplied_verdicts() -> None:
    assert [v.correct for v in probemap.grade(TASK, ANSWERS)] == [True, False]
    supplied = replace(ANSWERS[1], verdict=Verdict(True, "supplied"))
    assert probemap.grade(TASK, [supplied, ANSWERS[0]]) == [
        Verdict(True, "supplied"),
        Verdict(True, ACCEPTED.reason, rule="accepted answer asserted", evidence=(3, 7)),
    ]


def test_grade_calls_grader_with_example_and_final_text() -> None:
    calls: list[tuple[Example, str]] = []

    def grader(example: Example, text: str) -> Verdict:
        calls.append((example, text))
        return Verdict(None, "mine")

    thinking = replace(ANSWERS[0], n_reasoning=1)
    assert probemap.grade(TASK, [thinking, ANSWERS[1]], grader=grader) == [Verdict(None, "mine")] * 2
    assert calls == [(LIMA, " Peru."), (ROME, "In Spain.")]


def test_grade_with_grader_decides_cut_off_answers_regardless_of_its_verdict() -> None:
    def graded(correct: bool, text: str, *, stopped: bool) -> Verdict:
        answer = make_answer(text, [text], ["?"], stopped=stopped)
        return probemap.grade(TASK, [answer], grader=lambda example, text: Verdict(correct, "mine"))[0]

    assert graded(True, " ", stopped=True) == EMPTY
    assert graded(True, "", stopped=False) == CUT_OFF
    for correct in (True, False):
        assert graded(correct, "Spa", stopped=False) == CUT_OFF
        assert graded(correct, "Italy", stopped=False) == CUT_OFF, "the name may be incomplete"
        assert graded(correct, "It is in Italy. It", stopped=False) == Verdict(correct, "mine")
    assert graded(False, "Spain", stopped=True) == Verdict(False, "mine")


def test_grade_rejects_bad_input() -> None:
    with pytest.raises(
        DataError, match="1 of 1 answers belong to no example of the task 't'; the first one has the id"
    ):
        probemap.grade(TASK, [replace(ANSWERS[0], id="c")])
    with pytest.raises(DataError, match=r"the grader returned True for the answer 'b', expected a Verdict\nhint"):
        probemap.grade(TASK, ANSWERS, grader=lambda example, text: True)  # type: ignore[arg-type, return-value]
    ungradable = replace(TASK, examples=(ROME, replace(LIMA, answers=())))
    with pytest.raises(DataError, match=r"'b' has no accepted answers.*\nhint: add 'answers' to the question"):
        probemap.grade(ungradable, ANSWERS)
    assert probemap.grade(ungradable, ANSWERS, grader=lambda example, text: Verdict(True, ""))[0].correct


def test_locate_default_follows_kind_of_task() -> None:
    assert probemap.locate(TASK, ANSWERS) == [Span(2, 3, "Peru"), Span(2, 3, "Spain")]
    assert probemap.locate(replace(TASK, kind="numbers"), ANSWERS) == [None, None]
    names = replace(TASK, kind="names", possible=(("Italy",), ("Spain",), ("Peru",)))
    assert probemap.locate(names, ANSWERS) == [Span(2, 3, "Peru"), Span(2, 3, "Spain")]
    assert probemap.locate(names, [replace(ANSWERS[0], stopped=False)]) == [Span(2, 3, "Peru")]
    cut = make_answer("In Peru", ["In", " Peru"], ["?"], stopped=False)
    assert probemap.locate(names, [cut]) == probemap.locate(TASK, [cut], locator=lambda q, t: (3, 7)) == [None]


def test_locate_calls_locator_with_question_and_final_text() -> None:
    calls: list[tuple[str, str]] = []

    def locator(question: str, text: str) -> tuple[int, int]:
        calls.append((question, text))
        return 1, 3

    assert probemap.locate(TASK, [replace(ANSWERS[0], n_reasoning=1), ANSWERS[1]], locator=locator) == [
        Span(2, 3, "Pe"),
        Span(1, 3, "n "),
    ]
    assert calls == [("Where is Lima?", " Peru."), ("Where is Rome?", "In Spain.")]


_RANGES = st.one_of(
    st.none(),
    st.tuples(st.integers(-3, 12), st.integers(-3, 12)),
    st.tuples(st.integers(0, 8), st.integers(0, 8)).map(np.array),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.floats() | st.integers() | st.none(), max_size=3),
)


@given(_RANGES)
def test_locate_any_range_gives_span_or_error(characters: Any) -> None:
    text = ANSWERS[0].text
    try:
        (span,) = probemap.locate(TASK, ANSWERS[:1], locator=lambda question, text: characters)
    except DataError as error:
        assert "the locator returned" in str(error)
        assert "0 <= start < stop <= len(text)" in str(error)
    else:
        assert (span is None) == (characters is None)
        assert span is None or span.text == text[characters[0] : characters[1]] != ""


def test_locate_names_range_outside_of_text() -> None:
    with pytest.raises(
        DataError,
        match=r"the locator returned \(3, 99\) for the answer 'b', whose text has 8 characters\nhint: return \(",
    ):
        probemap.locate(TASK, ANSWERS, locator=lambda question, text: (3, 99))


def test_llm_grader_and_locator_use_responses_of_judge() -> None:
    prompts: list[Task] = []

    def respond(task: Task) -> Iterator[list[tuple[str, str]]]:
        prompts.append(task)
        responses = {"verdicts": ("No.", "yes, it is"), "exact answers": ("Peru", "NO ANSWER")}[task.name]
        yield list(zip([e.id for e in task.examples], responses, strict=True))

    judge = LLMJudge("judge", respond)
    grader, locator = llm_grader(judge, TASK, ANSWERS), llm_locator(judge, TASK, ANSWERS)
    assert [v.correct for v in probemap.grade(TASK, ANSWERS, grader=grader)] == [False, True]
    assert probemap.locate(TASK, ANSWERS, locator=locator) == [Span(2, 3, "Peru"), None]
    assert [len(task.examples) for task in prompts] == [2, 2], "one batch for the verdicts, one for the exact answers"
    assert "Italy" not in repr(prompts[1].examples), "the accepted answers are not shown to the locator"
    for function in (lambda: grader(ROME, "In Peru."), lambda: locator("Where is Rome?", "In Peru.")):
        with pytest.raises(DataError, match="the judge was not asked about"):
            function()


def test_llm_grader_accepts_loaded_model(smollm: Model) -> None:
    grader = llm_grader(smollm, TASK, ANSWERS)
    assert all(v.reason.startswith("the judge") for v in probemap.grade(TASK, ANSWERS, grader=grader))


@pytest.mark.parametrize(
    "text",
    ["The answer " + "\n" * 32_000 + "x", "A " + " " * 32_000 + "x", "Answer: " * 5000, "It is " + "7" * 20_000],
)
@pytest.mark.parametrize("kind", ["open", "numbers", "choices"])
def test_repetitive_texts_are_read_in_linear_time(text: str, kind: Kind) -> None:
    task = Task("t", (Example("x", "Which is it?", ("5",), ("5", "6") if kind == "choices" else ()),), kind)
    answer = make_answer(text, [text], ["?"])
    start = time.process_time()
    locate_answer(task, task.examples[0], answer)
    assert grade_answer(task, task.examples[0], answer).correct is not True
    assert time.process_time() - start < 2, "the time would be minutes if it grew with the square of the length"
