"""Conversion of rows as published: rows from the hub, and rows from the files of the research code."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.rules import rule_grader
from probemap.models.prompts import fill_template
from probemap.records import DataError
from probemap.tasks.loading import load_task
from probemap.tasks.published import PUBLISHED, adapt_rows

CHOICES = {"text": ["Lead", "Gold", "Tin"], "label": ["1", "2", "3"]}

ROWS: dict[str, list[dict[str, Any]]] = {
    "triviaqa": [
        {
            "question_id": "tc_1",
            "question": "Which metal is Au?",
            "answer": {"value": "Gold", "aliases": ["Aurum", "Gold"]},
        },
        {"id": "x2", "question": "Which metal is Sn?", "answers": ["Tin", "Stannum"]},
    ],
    "nq-open": [{"question": "which metal is au", "answer": ["gold", "Gold"]}],
    "popqa": [{"id": 7, "question": "What is Au?", "possible_answers": '["gold", "aurum"]'}],
    "hotpotqa": [{"id": "h", "question": "Which metal is Au?", "answer": "gold"}],
    "hotpotqa-context": [
        {
            "id": "h",
            "question": "Which metal is Au?",
            "answer": "gold",
            "context": {"title": ["Au", "Tin"], "sentences": [["Au is ", "gold."], ["Tin is Sn."]]},
        }
    ],
    "squad": [
        {"id": "s", "question": "What is Au?", "context": "Au is gold.", "answers": {"text": ["gold", "gold"]}},
        {"id": "t", "question": "What is Pb?", "context": "Au is gold.", "answers": {"text": []}},
    ],
    "gsm8k": [{"question": "How many are 3 and 1,005?", "answer": "3 + 1005 = <<3+1005=1008>>1008\n#### 1,008"}],
    "math": [
        {"unique_id": "a/1", "problem": "What is $1+1$?", "answer": "2"},
        {"unique_id": "a/2", "problem": "What is $x$?", "answer": "y + 2"},
        {"unique_id": "a/3", "problem": "What is $1/2$?", "answer": "\\frac{1}{2}"},
        {"problem": "What is $2+1$?", "solution": "It is $\\boxed{3}$."},
    ],
    "answerable-math": [
        {"id": "9", "question": " How many are left? ", "answer": "[23.0]", "answerable": "True"},
        {"id": "10", "question": "How many were there?", "answer": "", "answerable": "False"},
    ],
    "truthfulqa": [
        {"question": "What is Au?", "mc1_targets": {"choices": ["gold", "lead", "tin"], "labels": [1, 0, 0]}}
    ],
    "imdb": [{"text": "Fine film.<br />Go.", "label": 1}, {"text": "Dull film.", "label": 0}],
    "sst2": [
        {"idx": 4, "sentence": "a fine film", "label": 1},
        {"idx": 5, "sentence": "no label here", "label": -1},
        {"id": "r", "review": "a dull film", "answers": ["negative"]},
    ],
    "mnli": [
        {"pairID": "p", "premise": "It rains.", "hypothesis": "It is dry.", "label": 2},
        {"pairID": "q", "premise": "It rains.", "hypothesis": "It pours.", "label": -1},
        {"Question": 'For the statement "It rains", does …?', "Answer": "neutral"},
    ],
    "winogrande": [
        {"sentence": "Ann thanked Eve because _ helped.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        {"sentence": "Ann saw Eve because _ looked.", "option1": "Ann", "option2": "Eve", "answer": ""},
        {"Question": "Ann thanked Eve because _ helped. Who …?", "Answer": "Eve", "Wrong_Answer": "Ann"},
    ],
    "winobias": [
        {
            "sentence": "The cook hired the clerk because he was busy.",
            "answer": "cook",
            "incorrect_answer": "clerk",
            "q_instruct": "Who does the pronoun 'he' refer to?",
        }
    ],
    "boolq": [{"question": "is au gold", "answer": True, "passage": "Au is gold."}],
    "arc": [{"id": "a", "question": "Which metal is Au?", "choices": CHOICES, "answerKey": "2"}],
    "mmlu": [
        {
            "question": "Which metal is Au?",
            "choices": ["Lead", "Gold", "Tin", "Iron"],
            "answer": 1,
            "subject": "chemistry",
        }
    ],
    "sciq": [
        {
            "question": "Which metal is Au?",
            "distractor1": "Lead",
            "distractor2": "Tin",
            "distractor3": "Iron",
            "correct_answer": "Gold",
        }
    ],
    "movies": [{"Question": "Who acted as X in the movie 'Y'?", "Answer": "Z"}],
}

EXPECTED: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {
    "triviaqa": [("tc_1", "Which metal is Au?", ("Gold", "Aurum")), ("x2", "Which metal is Sn?", ("Tin", "Stannum"))],
    "nq-open": [("nq-open-1", "Which metal is au?", ("gold", "Gold"))],
    "popqa": [("7", "What is Au?", ("gold", "aurum"))],
    "hotpotqa": [("h", "Which metal is Au?", ("gold",))],
    "hotpotqa-context": [("h", "Which metal is Au?", ("gold",))],
    "squad": [("s", "What is Au?", ("gold",))],
    "gsm8k": [("gsm8k-1", "How many are 3 and 1,005?", ("1008",))],
    "math": [
        ("a/1", "What is $1+1$?", ("2",)),
        ("a/3", "What is $1/2$?", ("0.5",)),
        ("math-4", "What is $2+1$?", ("3",)),
    ],
    "answerable-math": [("9", "How many are left?", ("23",))],
    "truthfulqa": [("truthfulqa-1", "What is Au?", ("gold",))],
    "imdb": [("imdb-1", "Fine film.\nGo.", ("positive",)), ("imdb-2", "Dull film.", ("negative",))],
    "sst2": [("4", "a fine film", ("positive",)), ("r", "a dull film", ("negative",))],
    "mnli": [
        (
            "p",
            'For the statement "It rains.", does the hypothesis "It is dry." represent entailment, contradiction, '
            "or neutrality?",
            ("contradiction",),
        ),
        ("mnli-3", 'For the statement "It rains", does …?', ("neutral",)),
    ],
    "winogrande": [
        ("winogrande-1", "Ann thanked Eve because _ helped. What does the blank refer to in the sentence?", ("Eve",)),
        ("winogrande-3", "Ann thanked Eve because _ helped. Who …?", ("Eve",)),
    ],
    "winobias": [
        (
            "winobias-1",
            "The cook hired the clerk because he was busy. Who does the pronoun 'he' refer to?",
            ("cook",),
        )
    ],
    "boolq": [("boolq-1", "Is au gold?", ("yes",))],
    "arc": [("a", "Which metal is Au?", ("Gold",))],
    "mmlu": [("mmlu-1", "Which metal is Au?", ("Gold",))],
    "sciq": [("sciq-1", "Which metal is Au?", ("Gold",))],
    "movies": [("movies-1", "Who acted as X in the movie 'Y'?", ("Z",))],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_adapt_rows_gives_examples(name: str) -> None:
    task = adapt_rows(name, ROWS[name])
    assert [(e.id, e.question, e.answers) for e in task.examples] == EXPECTED[name]
    for example in task.examples:
        assert example.question in fill_template(task.prompt, example)
        verdict = rule_grader(task)(example, f"{example.answers[0]}.")
        assert verdict.correct is True, "the preferred answer alone is correct"
        for choice in set(example.choices) - set(example.answers):
            assert rule_grader(task)(example, f"{choice}.").correct is False


def test_adapt_rows_shuffles_choices_graded_by_letter_or_words() -> None:
    rows = [{**ROWS["truthfulqa"][0], "question": f"What is {i}?"} for i in range(60)]
    task = adapt_rows("truthfulqa", rows)
    indices = [e.choices.index("gold") for e in task.examples]
    assert {indices.count(i) > 8 for i in range(3)} == {True}, "published with the correct choice first"
    example = task.examples[0]
    letter = "ABC"[indices[0]]
    assert f"{letter}) gold" in fill_template(task.prompt, example)
    for text in (letter, f"({letter})", f"The answer is {letter}.", f"{letter}) gold", "It is gold."):
        assert rule_grader(task)(example, text).correct is True, text
    incorrect = "ABC"[indices[0] - 1]
    assert rule_grader(task)(example, f"{incorrect}.").correct is False
    assert (
        rule_grader(task)(example, f"{incorrect}) gold").correct is None
        or not rule_grader(task)(example, f"{incorrect}) gold").correct
    )


def test_load_task_reads_published_rows_from_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS["gsm8k"]))
    task = load_task(f"gsm8k:{path}")
    assert (task.name, task.kind, task.examples[0].answers) == ("gsm8k", "numbers", ("1008",))
    assert task.source == "GSM8K (Cobbe et al. 2021), MIT"


def test_adapt_rows_drops_repeated_questions() -> None:
    rows = [{"question": q, "answers": ["Gold"]} for q in ("What is Au?", "what is  AU?", "What is Sn?")]
    assert [e.question for e in adapt_rows("triviaqa", rows).examples] == ["What is Au?", "What is Sn?"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_adapt_rows_rejects_foreign_rows(name: str) -> None:
    for row in ({"colour": "red"}, {}, {"question": 3, "answer": None}, "text", None):
        with pytest.raises(DataError, match=rf"row 1 is not a valid row of {name}|no row of {name} can be used"):
            adapt_rows(name, [row])  # type: ignore[list-item]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(PUBLISHED)), st.data())
def test_adapt_rows_damaged_row_gives_data_error(name: str, data: st.DataObject) -> None:
    row = dict(ROWS[name][0])
    for field in data.draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=3)):
        row[field] = data.draw(_JSON)
    try:
        task = adapt_rows(name, [row])
    except DataError as error:
        assert "hint:" in str(error)
    else:
        assert all(e.question.strip() and all(e.answers) for e in task.examples)


def test_load_from_hub_passes_repository_config_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    calls = []

    def load_dataset(repository: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        calls.append((repository, config, split))
        return ROWS["arc"]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_task("arc").examples[0].answers == ("Gold",)
    assert calls == [("allenai/ai2_arc", "ARC-Challenge", "test")]


def test_load_from_hub_names_source_of_file_only_data_set() -> None:
    with pytest.raises(DataError, match=r"movies is only available as a file.*\n?.*LLMsKnow.*movies:FILE"):
        load_task("movies")


def test_load_task_rejects_repeated_ids(tmp_path: Path) -> None:
    path = tmp_path / "arc.jsonl"
    path.write_text("".join(json.dumps({**ROWS["arc"][0], "question": f"Which metal is {k}?"}) + "\n" for k in "ab"))
    with pytest.raises(DataError, match="1 ids occur more than once: 'a'"):
        load_task(f"arc:{path}")


SPELLINGS: dict[str, list[Any]] = {
    "yes": [True, 1, 1.0, "TRUE", "true", "1", "1.0", "yes", "Y", " True ", "WAHR", "VRAI", "Sí"],
    "no": [False, 0, 0.0, "FALSE", "false", "0", "no", "N", "FALSCH", "FAUX"],
    "": [None, "", "NA", "null"],
}
"""Truth values as spreadsheets, data frames and JSON contain them."""


@pytest.mark.parametrize(("expected", "value"), [(key, value) for key, values in SPELLINGS.items() for value in values])
def test_boolq_reads_the_truth_values_of_spreadsheets(expected: str, value: Any) -> None:
    rows = [
        {"question": "is it", "answer": value, "passage": "x"},
        {"question": "is he", "answer": "no", "passage": "x"},
    ]
    answers = [example.answers[0] for example in adapt_rows("boolq", rows).examples]
    assert answers == ([expected] if expected else []) + ["no"]


@pytest.mark.parametrize("value", ["maybe", 2, -1, "10", ["yes"], {}])
def test_boolq_refuses_other_values(value: Any) -> None:
    with pytest.raises(DataError, match="row 1 is not a valid row of boolq: ValueError must be true or false, got "):
        adapt_rows("boolq", [{"question": "is it", "answer": value, "passage": "x"}])


def test_answerable_questions_of_a_spreadsheet_are_used() -> None:
    rows = [{"question": f"q{i}?", "answer": 7, "answerable": v} for i, v in enumerate(("TRUE", "FALSE", "1", 0, True))]
    assert [e.question for e in adapt_rows("answerable-math", rows).examples] == ["q0?", "q2?", "q4?"]


def test_empty_aliases_are_left_out_and_questions_without_answers_are_not_asked() -> None:
    answers: list[Any] = [
        {"value": "Italy", "aliases": ["", "Italia", ".", "Italy"]},
        {"value": "", "aliases": [""]},
        {"value": ".", "aliases": []},
    ]
    rows = [{"question": f"Where is {i}?", "answer": answer} for i, answer in enumerate(answers)]
    (example,) = adapt_rows("triviaqa", rows).examples
    assert (example.question, example.answers) == ("Where is 0?", ("Italy", "Italia", "."))
    rows = [{"question": "who built it", "answer": []}, {"question": "who sold it", "answer": ["Ann Lee", None]}]
    (example,) = adapt_rows("nq-open", rows).examples
    assert (example.question, example.answers) == ("Who sold it?", ("Ann Lee",))
    with pytest.raises(DataError, match="must contain only strings and numbers, got True"):
        adapt_rows("nq-open", [{"question": "who", "answer": [True]}])


@pytest.mark.parametrize(
    ("label", "answer"), [(2, "c"), ("2", "c"), ("2.0", "c"), (2.0, "c"), (-1, None), ("", None), (None, None)]
)
def test_labels_of_mmlu(label: Any, answer: str | None) -> None:
    rows = [
        {"question": "Which?", "choices": '["a", "b", "c", "d"]', "answer": label},
        {"question": "Who?", "choices": ["a", "b"], "answer": 0},
    ]
    examples = adapt_rows("mmlu", rows).examples
    assert [e.answers[0] for e in examples] == ([answer] if answer else []) + ["a"]
    for wrong in (4, -2, 1.5, True, "b", [1]):
        with pytest.raises(DataError, match="row 1 is not a valid row of mmlu"):
            adapt_rows("mmlu", [rows[0] | {"answer": wrong}])
    with pytest.raises(DataError, match=r"must be a list, got 'a, b'|starts like a list"):
        adapt_rows("mmlu", [rows[1] | {"choices": "a, b"}])


def test_published_fields_are_kept_as_metadata() -> None:
    rows = [
        {
            "id": k,
            "question": f"What is {k}?",
            "possible_answers": '["gold"]',
            "prop": "genre",
            "s_pop": str(k),
            "obj": "x",
        }
        for k in range(2)
    ]
    examples = adapt_rows("popqa", rows).examples
    assert [example.metadata for example in examples] == [(("prop", "genre"), ("s_pop", float(k))) for k in range(2)]
