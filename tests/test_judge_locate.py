"""Verdicts and exact answers on worked cases: what counts, what does not, what stays undecided."""

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import LOCATORS, find_words, locate, paper_locator
from probemap.grading.rules import judge
from probemap.mentions import asserted_number, find_names, fold
from probemap.records import Example, Kind, Task
from probemap.tasks.loading import load_task

CITIES = load_task("cities")
COUNTRIES = CITIES.possible


def verdict_and_exact(task: Task, example: Example, text: str, *, stopped: bool = True) -> tuple[str, str | None]:
    answer = make_answer(text, list(text), ["?"], stopped=stopped)
    span, _ = locate(task, example, answer)
    said = judge(task, example, answer)
    word = {True: "right", False: "wrong", None: "undecided"}[said.correct]
    return f"{word}: {said.reason}", span.text if span else None


def country(*answers: str) -> Example:
    return Example("x", "In which country is the city of X?", answers)


@pytest.mark.parametrize(
    ("gold", "text", "verdict", "exact"),
    [
        ("Oman", "X is in Romania.", "wrong: names another answer", "Romania"),
        ("Niger", "X is in Nigeria.", "wrong: names another answer", "Nigeria"),
        ("Guinea", "X is in Guinea-Bissau.", "wrong: names another answer", "Guinea-Bissau"),
        ("Guinea", "It lies in Papua New Guinea", "wrong: names another answer", "Papua New Guinea"),
        ("Sudan", "South Sudan.", "wrong: names another answer", "South Sudan"),
        ("Ivory Coast", "in Côte d’Ivoire.", "right: names an accepted answer", "Côte d’Ivoire"),
        ("Ivory Coast", "in COTE D'IVOIRE.", "right: names an accepted answer", "COTE D'IVOIRE"),
        ("United States", "in the U.S. state of Texas", "right: names an accepted answer", "U.S"),
        ("United States", "in the United\nStates.", "right: names an accepted answer", "United\nStates"),
        ("United States", "It belongs to us.", "wrong: names no possible answer", None),
        ("France", "It is not in Spain, it is in France.", "right: names an accepted answer", "France"),
        ("France", "It is not in France.", "wrong: negates the accepted answer", None),
        ("France", "It isn't in the country of France.", "wrong: negates the accepted answer", None),
        ("France", "It is in Spain rather than France.", "wrong: names another answer", "Spain"),
        ("France", "It is not only in France.", "right: names an accepted answer", "France"),
        ("France", "It is in either France or Spain.", "undecided: several answers, none chosen", None),
        ("France", "Spain or France", "undecided: several answers, none chosen", None),
        ("France", "Of Spain or Italy? No: in France.", "right: names an accepted answer", "France"),
        ("France", "Spain, near France", "wrong: names another answer", "Spain"),
        ("France", "I don't know.", "undecided: refusal", None),
        ("France", "I'm sorry, but I cannot say.", "undecided: refusal", None),
        ("France", "", "undecided: empty", None),
        ("France", " \n", "undecided: empty", None),
        ("France", "In Europe.", "wrong: names no possible answer", None),
        ("France", "**France**", "right: names an accepted answer", "France"),
        ("Turkey", "Türkiye", "right: names an accepted answer", "Türkiye"),
        ("Netherlands", "in the Netherlands.", "right: names an accepted answer", "Netherlands"),
        ("Malaysia", "in the Malaysian state of Johor.", "right: names an accepted answer", "Malaysian"),
        ("Pakistan", "in the Indian state of Punjab.", "wrong: names another answer", "Indian"),
        ("Canada", "in the Canadian province of Quebec, Canada.", "right: names an accepted answer", "Canada"),
        ("India", "on the Indian Ocean.", "wrong: names no possible answer", None),
        ("Gambia", "in The Gambia", "right: names an accepted answer", "Gambia"),
    ],
)
def test_countries(gold: str, text: str, verdict: str, exact: str | None) -> None:
    accepted = next(names for names in COUNTRIES if gold in names)
    assert verdict_and_exact(CITIES, country(*accepted), text) == (verdict, exact)


@pytest.mark.parametrize(
    ("text", "verdict", "exact"),
    [
        ("Egypt, because it is home to more people than Iceland.", "right: names an accepted answer", "Egypt"),
        ("Iceland, because it is home to more people.", "wrong: names another answer", "Iceland"),
        ("Between Iceland and Egypt, Egypt has more.", "right: names an accepted answer", "Egypt"),
        ("Both Iceland and Egypt are countries.", "undecided: several answers, none chosen", None),
        ("Ethiopia, because it is home to more people than Egypt.", "wrong: names no possible answer", None),
        ("It is smaller than Egypt: Iceland.", "wrong: names another answer", "Iceland"),
        ("Norway.", "wrong: names no possible answer", None),
    ],
)
def test_choices_by_first_mention(text: str, verdict: str, exact: str | None) -> None:
    example = Example("x", "Which has more inhabitants, Iceland or Egypt?", ("Egypt",), ("Iceland", "Egypt"))
    assert verdict_and_exact(load_task("compare"), example, text) == (verdict, exact)


@pytest.mark.parametrize(
    ("question", "gold", "text", "verdict", "exact"),
    [
        (
            "What is 9 + 8?",
            "17",
            "To add 9 and 8, you add them: 9 + 8 = 17.",
            "right: names an accepted answer",
            "17",
        ),
        ("What is 9 + 8?", "17", "9 + 8 is 16", "wrong: names another answer", "16"),
        ("What is 9 + 8?", "17", "seventeen", "right: names an accepted answer", "seventeen"),
        ("What is 9 + 8?", "17", "The answer is Seventeen.", "right: names an accepted answer", "Seventeen"),
        ("What is 20 + 1?", "21", "twenty-one", "right: names an accepted answer", "twenty-one"),
        ("What is 7 + 0?", "7", "7", "right: names an accepted answer", "7"),
        ("What is 7 + 0?", "7", "7 + 0 = 7", "right: names an accepted answer", "7"),
        (
            "What is 2 times 8?",
            "16",
            "2 * 8 = 16\n\nA simple way to multiply by 2.",
            "right: names an accepted answer",
            "16",
        ),
        ("What is 30 times 40?", "1200", "It is 1,200.", "right: names an accepted answer", "1,200"),
        ("What is half of 7?", "3.5", "Half of 7 is 3.5.", "right: names an accepted answer", "3.5"),
        ("What is half of 14?", "7", "Half of 14 is 7.0", "right: names an accepted answer", "7.0"),
        ("What is 3 - 5?", "-2", "3 - 5 = -2", "right: names an accepted answer", "-2"),
        ("What is 9 - 8?", "1", "The difference between 9 and 8 is 9 -", "wrong: names no possible answer", None),
        ("How much?", "18", "#### 18", "right: names an accepted answer", "18"),
        ("What is 9 + 8?", "17", "It is not 17.", "wrong: names no possible answer", None),
        (
            "How many?",
            "120",
            "It is one hundred and twenty.",
            "right: names an accepted answer",
            "one hundred and twenty",
        ),
        ("How many?", "25", "It is twenty five.", "right: names an accepted answer", "twenty five"),
        ("How many?", "1200000", "About 1.2 million people.", "right: names an accepted answer", "1.2 million"),
        ("How many?", "1200000", "About 1 200 000 people.", "right: names an accepted answer", "1 200 000"),
        ("How cold?", "-5", "It dropped to -5 degrees.", "right: names an accepted answer", "-5"),
        ("How cold?", "-5", "The answer is **-5**.", "right: names an accepted answer", "-5"),
        ("How much?", "0.5", "It is .5", "right: names an accepted answer", ".5"),
        ("How many?", "7", "I would guess seven, one of the primes.", "right: names an accepted answer", "seven"),
        ("What is 46 + 14?", "60", "Add them. The sum of 46 and 14 is", "wrong: names no possible answer", None),
        ("What is 9 + 8?", "17", "They are both odd.", "wrong: names no possible answer", None),
        ("What is 9 + 8?", "17", "9 + 8 = 1.7e3", "wrong: names another answer", "1.7"),
    ],
)
def test_numbers(question: str, gold: str, text: str, verdict: str, exact: str | None) -> None:
    task = Task("sums", (), "numbers")
    assert verdict_and_exact(task, Example("x", question, (gold,)), text) == (verdict, exact)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("It was Mark Twain.", "right: names an accepted answer"),
        ("The answer is not Mark Twain.", "wrong: negates the accepted answer"),
        ("Mark Twainson", "wrong: lacks every accepted answer"),
        ("Samuel L. Clemens, of course", "right: names an accepted answer"),
        ("I do not know.", "undecided: refusal"),
    ],
)
def test_open_questions_by_alias(text: str, verdict: str) -> None:
    example = Example("x", "Who wrote it?", ("Mark Twain", "Samuel L. Clemens"))
    assert verdict_and_exact(Task("open", (), "open"), example, text) == (verdict, None)


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("July 4, 1776", "It was signed on the 4th of July, 1776.", "right: names an accepted answer"),
        ("4 July 1776", "On July 4th, 1776.", "right: names an accepted answer"),
        ("1776-07-04", "4 July 1776", "right: names an accepted answer"),
        ("July 4, 1776", "1776-07-04", "right: names an accepted answer"),
        ("July 4, 1776", "July 5, 1776", "wrong: lacks every accepted answer"),
        ("July 4, 1776", "in July 1776", "wrong: lacks every accepted answer"),
        ("July 4, 1776", "not on 4 July 1776", "wrong: negates the accepted answer"),
        ("1776-13-04", "13 April 1776", "wrong: lacks every accepted answer"),
        ("3", "There are three of them.", "right: names an accepted answer"),
        ("three", "3.", "wrong: lacks every accepted answer"),
        ("3,000", "about 3000 people", "right: names an accepted answer"),
        ("12", "in 1912, 120 of them", "wrong: lacks every accepted answer"),
        ("5", "There are not five.", "wrong: negates the accepted answer"),
        ("Mark Twain", "```\nMark Twain\n```", "right: names an accepted answer"),
        ("Mark Twain", "It was **Mark** Twain.", "right: names an accepted answer"),
        ("Mark Twain", "The answer is not Mark Twain.", "wrong: negates the accepted answer"),
    ],
)
def test_dates_numbers_and_markdown_in_open_answers(gold: str, text: str, verdict: str) -> None:
    task = Task("open", (), "open")
    assert verdict_and_exact(task, Example("x", "q?", (gold,)), text)[0] == verdict


@pytest.mark.parametrize(
    ("text", "verdict", "exact"),
    [
        ("B", "right: names an accepted answer", "B"),
        ("(B)", "right: names an accepted answer", "B"),
        ("B) Paris", "right: names an accepted answer", "B) Paris"),
        ("**B. Paris**", "right: names an accepted answer", "B. Paris"),
        ("The correct answer is (B) Paris, because …", "right: names an accepted answer", "B) Paris"),
        ("The answer is:\nB", "right: names an accepted answer", "B"),
        ("Answer: C", "wrong: names another answer", "C"),
        ("Option B is right.", "right: names an accepted answer", "B"),
        ("I think it is Paris.", "right: names an accepted answer", "Paris"),
        ("It is not A) Rome but B) Paris.", "right: names an accepted answer", "B) Paris"),
        ("A) Rome\nB) Paris\nC) A plant\nThe answer is B", "right: names an accepted answer", "B"),
        ("The answer is A plant.", "wrong: names another answer", "plant"),
        ("A river runs through it.", "wrong: names no possible answer", None),
        ("B) Rome", "wrong: names no possible answer", None),
        ("Either Rome or Paris.", "undecided: several answers, none chosen", None),
        ("Not B.", "wrong: names no possible answer", None),
        ("I don't know.", "undecided: refusal", None),
        ("E) none", "wrong: names no possible answer", None),
    ],
)
def test_lettered_choices(text: str, verdict: str, exact: str | None) -> None:
    task = Task("choices", (), "choices")
    example = Example("x", "What is the capital of France?", ("Paris",), ("Rome", "Paris", "A plant"))
    assert verdict_and_exact(task, example, text) == (verdict, exact)


def test_what_is_cut_off_is_undecided_unless_it_was_said_whole() -> None:
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
        "right: names an accepted answer",
        "France",
    )


def test_location_does_not_see_the_gold_answer_or_the_verdict() -> None:
    text = "It is in Spain, not France; I mean Italy."
    found = {verdict_and_exact(CITIES, country(gold), text)[1] for gold in ("Spain", "France", "Italy", "Peru")}
    assert found == {"Spain"}


@pytest.mark.parametrize(
    ("kind", "gold", "text", "ordinary", "paper"),
    [
        ("names", ("France",), "It is not in France's east; it is in France.", (37, 43), (13, 19)),
        ("names", ("Italy",), "Unlike Italy, France is not, but Italy is.", (14, 20), (14, 20)),
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
def test_the_paper_s_locator_takes_the_gold_answer_s_first_place_in_right_answers_only(
    kind: Kind, gold: tuple[str, ...], text: str, ordinary: tuple[int, int] | None, paper: tuple[int, int] | None
) -> None:
    task = CITIES if kind == "names" else Task("sums", (), "numbers")
    example = Example("x", "What is it?", gold)
    find = LOCATORS[kind]
    said = judge(task, example, make_answer(text, list(text), ["?"]))
    here = paper_locator(example, said.correct, find)
    assert find(example.question, text, task.possible) == ordinary
    assert here(example.question, text, task.possible) == paper


def test_the_paper_s_locator_prefers_the_earliest_then_the_first_listed_answer() -> None:
    def place(*gold: str) -> tuple[int, int] | None:
        here = paper_locator(Example("x", "?", gold), True, LOCATORS["none"])
        return here("?", "Mark Twain, born Clemens", [])

    assert place("Clemens", "Mark Twain") == (0, 10)
    assert place("Mark", "Mark Twain") == (0, 4)
    assert place("Mark Twain", "Mark") == (0, 10)
    assert place("Marc", "Twai") is None, "no part of a word"


def test_a_model_s_extract_counts_only_where_it_stands_in_the_text() -> None:
    assert find_words("It was William Shakespeare.", " william shakespeare. ") == (7, 26)
    assert find_words("It was in Romania.", "Oman") is None
    assert find_words("Oman is not in Romania; Oman", "roman") is None
    assert find_words("It was he.", "NO ANSWER") is None
    assert find_words("It was he.", '"."') is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_country_is_found_whatever_stands_around_it(before: str, after: str) -> None:
    text = f"{before} Austria {after}"
    at = len(before) + 1
    assert any(m.start == at and text[m.start : m.stop] == "Austria" for m in find_names(text, [("Austria",)]))


@given(st.text(max_size=60))
def test_folding_keeps_track_of_every_character(text: str) -> None:
    folded, origin = fold(text)
    assert len(folded) == len(origin)
    assert origin == sorted(origin)
    assert all(0 <= i < len(text) for i in origin)


@given(st.text(max_size=60))
def test_any_text_gets_a_verdict_and_never_an_error(text: str) -> None:
    word, exact = verdict_and_exact(CITIES, country("France"), text)
    assert word.split(":")[0] in ("right", "wrong", "undecided")
    assert exact is None or exact in text
    mention = asserted_number("What is 1 + 1?", text)
    assert mention is None or text[mention.start : mention.stop]
