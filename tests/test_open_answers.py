"""Exact answers of open questions: by rules, and chosen by a model among parts of the text."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_answer

from probemap.grading.choosing import choice_locator, choice_task, choose_answers
from probemap.grading.open_answers import locate_open, open_candidates
from probemap.models.continuations import Continuation, score_continuations
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.reading.asked import asked_kind
from probemap.reading.tokens import Question
from probemap.reading.values import find_values
from probemap.records import Example

ROWS = [
    json.loads(line) for line in Path(__file__).with_name("open_answers.jsonl").read_text(encoding="utf-8").splitlines()
]
"""Answers in the style of chat models, in eleven languages, with the exact answer or null."""


def located(question: str, text: str) -> str | None:
    span = locate_open(question, text)
    return None if span is None else text[span[0] : span[1]]


def bare(words: str) -> str:
    return words.strip(" .\"'").casefold().removeprefix("the ")


def test_rule_finds_nine_of_ten_exact_answers_and_is_right_where_it_finds_one() -> None:
    assert len(ROWS) == 118
    found = [(row, located(row["question"], row["text"])) for row in ROWS]
    wrong = [
        (row["text"], span)
        for row, span in found
        if span is not None and (row["exact"] is None or bare(span) not in bare(row["exact"]))
    ]
    missed = [row["text"] for row, span in found if span is None and row["exact"] is not None]
    assert wrong == []
    assert len(missed) <= 5, missed


@pytest.mark.parametrize(
    ("question", "text", "exact"),
    [
        ("Who wrote Emma?", "Emma is a novel by Jane Austen.", "Jane Austen"),
        ("Who wrote Emma?", "Emma was not written by Mary Shelley but by Jane Austen.", "Jane Austen"),
        ("Who wrote Emma?", "Jane Austen.", "Jane Austen"),
        ("Who wrote Emma?", "She was an English writer who lived in Hampshire.", None),
        ("What is the capital of Canada?", "Canada is the capital of Canada.", "Canada"),
        ("What is the capital of Canada?", "The capital of Canada is the capital of Canada.", None),
        ("What is the capital of Australia?", "Sydney is larger, but Canberra is the capital.", "Canberra"),
        ("Which gas do plants absorb?", "Plants absorb carbon dioxide from the air.", "carbon dioxide"),
        ("What sport does Ann Lee play?", "Ann Lee plays golf.", "golf"),
        ("Where is Cilleruelo?", "Cillerulo is located in Spain.", "Spain"),
        ("When did order 2005 come into force?", "Order 2005 came into force in 2006.", "2006"),
        ("How many moons has Mars?", "In 1877, two moons of Mars were found.", "two"),
        ("Which country has the city of Lyon?", "Lyon is a city in Auvergne, France.", "France"),
        ("Which mountain is higher, Alm or Berg?", "Alm has 4,808 m, while Berg has 8,611 m. Berg is higher.", "Berg"),
        ("Is gold a metal?", "**Yes**, it is.", "Yes"),
        ("Who won?", "", None),
        # The common noun that describes the subject of the question.
        ("What sport does Ann Lee play?", "Ann Lee is a professional Irish tennis player.", "tennis"),
        (
            "What genre is Quick?",
            "Quick is a genre that combines elements of jazz, rock, and folk.",
            "jazz, rock, and folk",
        ),
        ("What genre is Quick?", "Quick is a 2004 American horror film by Ann Lee.", "horror film"),
        ("What genre is Ann Lee?", "Ann Lee is an Irish singer.", None),
        # The words with which a text continues the question.
        ("The city of Lyon lies on which river?", "The city of Lyon lies on the river Elbe.", "Elbe"),
        ("What is Lima the capital of?", "Lima is the capital of the Andean nation of Peru.", "Peru"),
        # Names at other places than the first one.
        ("Who was Soviet premier?", "The Soviet Union's premier was Ivan Petrov.", "Ivan Petrov"),
        ("Who painted Spring?", "Spring is attributed to the French artist, Jean Roux.", "Jean Roux"),
        ("What is the name of the feast?", 'The feast is called "Alba" or "Alba Magna" in Latin.', "Alba"),
        (
            "In which city is it set?",
            "It is set in the city of Lagos, which is a film about a boy named Kofi.",
            "Lagos",
        ),
        # Phrases that are no answers.
        ("Which gas do plants absorb?", "The primary gas absorbed by plants is carbon dioxide.", "carbon dioxide"),
        ("Which ocean lies east of Africa?", "The ocean is the largest body of water in the world.", None),
    ],
)
def test_rule_locates_what_the_text_adds_to_the_question(question: str, text: str, exact: str | None) -> None:
    assert located(question, text) == exact


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who wrote Emma?", "person"),
        ("Which tennis player won in 1988?", "person"),
        ("Where was she born?", "place"),
        ("In which city is the Louvre?", "place"),
        ("When did it end?", "date"),
        ("In what year did it end?", "year"),
        ("How many are there?", "number"),
        ("How long is it?", "quantity"),
        ("Why did it end?", "reason"),
        ("Is it a fish?", "yes/no"),
        ("What is the capital of Peru?", "thing"),
        ("¿En qué año llegó Colón?", "year"),
        ("Wer schrieb Faust?", "person"),
        ("Was ist die Hauptstadt von Polen?", "thing"),
        ("Où est le Louvre ?", "place"),
        ("谁写了《西游记》？", "person"),
        ("Сколько их?", "number"),
    ],
)
def test_asked_kind(question: str, kind: str) -> None:
    assert asked_kind(question).value == kind


def test_values_of_the_kind_that_the_question_asks_for() -> None:
    text = "In 1969, 400,000 people saw it on July 20, 1969, for 2.5 hours."
    values = {
        question: [text[v.start : v.stop] for v in find_values(text, Question(question).kind)]
        for question in ("What year was it?", "When was it?", "How long was it?")
    }
    assert values["What year was it?"] == ["1969", "1969"]
    assert values["When was it?"] == ["1969", "July 20, 1969"]
    assert values["How long was it?"][-1] == "2.5 hours"


def test_time_to_locate_grows_linearly() -> None:
    import time

    def seconds(n: int) -> float:
        start = time.perf_counter()
        locate_open("Who wrote Emma?", "It was a dark and stormy night, and nobody saw the rain. " * n)
        return time.perf_counter() - start

    seconds(10)
    assert seconds(2000) < 60 * max(seconds(100), 0.01)


# --- a model that chooses ---

TEXT = "Emma was written by Jane Austen in Hampshire."


def test_model_chooses_the_candidate_with_the_highest_log_probability() -> None:
    prompts: list[str] = []

    def planted(rows: Sequence[tuple[str, str, str]]) -> list[float]:
        prompts.extend(prompt for _, prompt, _ in rows)
        return [{" Jane Austen": -2.0, " Hampshire": -1.0}[continuation] for _, _, continuation in rows]

    texts = [TEXT, "Jane Austen.", "I do not know."]
    examples = [Example(str(i), "Who wrote Emma?", ("Jane Austen",)) for i in range(3)]
    answers = [make_answer(text, [text], ["?"], id_=e.id) for e, text in zip(examples, texts, strict=True)]
    task = choice_task(examples, answers)
    candidates = [[(c.start, c.stop) for c in open_candidates(e.question, e.context)] for e in task.examples]
    choices = choose_answers(task.examples, candidates, planted)
    assert choices == ["35:44 Hampshire", "0:11 Jane Austen", "NO ANSWER"], "a single candidate needs no model"
    assert set(prompts) == {f"Question: Who wrote Emma?\nText: {TEXT}\nShort answer:"}
    assert all(e.answers == ("",) for e in task.examples), "the accepted answers are not shown"
    find = choice_locator({("Who wrote Emma?", t): choice for t, choice in zip(texts, choices, strict=True)})
    chosen = [find("Who wrote Emma?", text) for text in texts]
    assert chosen == [(35, 44), (0, 11), None]


def test_choice_counts_only_for_the_text_for_which_it_was_made() -> None:
    stored = {("q", "It is Rome."): "6:10 Rome", ("q", "Rome it is."): "6:10 Rome", ("q", "x"): "Rome"}
    find = choice_locator(stored)
    assert [find("q", text) for text in ("It is Rome.", "Rome it is.", "x", "other")] == [(6, 10), None, None, None]


def test_candidates_are_parts_that_the_text_asserts() -> None:
    text = "It is not Lyon but Paris."
    assert [text[c.start : c.stop] for c in open_candidates("What is the capital of France?", text)] == ["Paris"]


def test_scores_are_the_mean_log_probabilities_of_the_tokens(base_model: Model) -> None:
    rows = [
        Continuation("a", "Question: Who?\nShort answer:", " Ann Lee"),
        Continuation("b", "Where?", " In Rome, of course"),
    ]
    expected = []
    for row in rows:
        encoding = base_model.tokenizer(row.prompt + row.text, return_offsets_mapping=True)
        ids = torch.tensor([encoding["input_ids"]], device=base_model.device)
        with torch.inference_mode():
            log_probs = torch.log_softmax(base_model.network(ids).logits[0].double(), -1)
        produced = [k for k, (_, stop) in enumerate(encoding["offset_mapping"]) if stop > len(row.prompt)]
        expected.append(np.mean([float(log_probs[k - 1, ids[0, k]]) for k in produced]))
    for batch_size in (1, 2):
        assert score_continuations(TransformersEngine(base_model), rows, batch_size=batch_size) == pytest.approx(
            expected, abs=1e-4
        )
