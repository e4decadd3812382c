"""Texts without an answer: descriptions, plans, questions, steps that were cut off."""

import pytest
from conftest import make_answer

from probemap.grading.rules import grade
from probemap.reading.answerless import Lack, lacks_answer
from probemap.reading.folding import same_name
from probemap.reading.results import asserted_number
from probemap.records import Example, Task

DESCRIBES = "describes what the question names instead of answering"


def reason(question: str, text: str, accepted: str = "Nowhere") -> tuple[bool | None, str]:
    task = Task("t", (Example("a", question, (accepted,)),), "open")
    (verdict,) = grade(task, [make_answer(text, list(text), ["?"], id_="a")])
    return verdict.correct, verdict.reason


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("What is the main language of Chile?", "Chile is a country in South America.", DESCRIBES),
        ("Which metal has the symbol Sn?", "Metal is a type of element. It is solid.", DESCRIBES),
        ("Who was the director of Stalker?", "Stalker was a film that was set in a zone.", DESCRIBES),
        ("Which lake lies in Peru?", "Which lake lies in Peru? Which lake lies in Chile?", "asks a question"),
        ("What genre is Faust?", "I am a creative AI, so I like all of them.", "speaks about itself"),
    ],
)
def test_texts_without_an_answer_are_undecided(question: str, text: str, expected: str) -> None:
    correct, why = reason(question, text)
    assert correct is None
    assert why.startswith(expected)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the hardest mineral?", "The hardest mineral is copper."),
        ("Which fruit is the main part of the dish?", "The main part of the dish is the dish itself, apple."),
        ("Who was the director of Stalker?", "Stalker was a film by John Smith."),
        ("Who became the first president?", "The first president was John Smith."),
        ("What sport does Ann Bell play?", "Ann Bell is a tennis player."),
        ("In which country is Avery?", "Avery is a city in Canada."),
    ],
)
def test_answers_in_similar_sentences_are_incorrect(question: str, text: str) -> None:
    assert reason(question, text)[0] is False


def test_descriptions_are_undecided_even_if_they_contain_the_accepted_answer() -> None:
    text = "Chile is a country in South America where Spanish is common."
    for accepted in ("Spanish", "Quechua"):
        assert reason("What is the main language of Chile?", text, accepted) == (None, DESCRIBES)


@pytest.mark.parametrize(
    "text",
    [
        "The capital of Peru is Lima. I'm happy to help if you have more questions!",
        "Sure! I'm here to help. The capital of Peru is Lima.",
        "I think it is Lima. I'm happy to help!",
        "Lima. The city says: I am an intelligent AI.",
    ],
)
def test_answers_with_a_sentence_about_the_model_are_graded(text: str) -> None:
    question = "What is the capital of Peru?"
    assert reason(question, text, "Lima") == (True, "names an accepted answer")
    assert reason(question, text, "Quito")[0] is False


@pytest.mark.parametrize(
    "text",
    [
        "I am an AI assistant. I'm here to help!",
        "I am an AI assistant created by Acme. I was trained on text.",
        "Hello! I'm a helpful AI assistant. How can I help you today?",
        "I am an AI. Please ask me a question.",
    ],
)
def test_answers_about_the_model_only_are_undecided(text: str) -> None:
    assert lacks_answer("Who wrote Emma?", text) is Lack.ABOUT_ITSELF
    assert reason("Who wrote Emma?", text) == (None, "speaks about itself instead of answering")


def test_numbers_that_repeat_the_question_are_no_result() -> None:
    question = "A rope is 90 metres long. It is cut into pieces of 6 metres. How many pieces are there?"
    assert asserted_number(question, "The rope is 90 metres long.") is None
    asserted = asserted_number(question, "90 metres")
    assert asserted is not None
    assert asserted.value == 90


def test_traditional_and_simplified_characters_are_equal() -> None:
    assert same_name("東京", "东京")
    assert same_name("中國", "中国")
    assert not same_name("東京", "北京")
