"""A model as judge and locator: its opinions kept, compared with the rules, and overruled by a person."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_answer
from fake_endpoint import FakeEndpoint, chat_reply
from running import execute

from probemap.grading.llm_replies import parse_verdict
from probemap.grading.rules import grade_answer
from probemap.logger import Logger
from probemap.models.endpoint import Endpoint
from probemap.models.model import Model
from probemap.records import DataError, Example, RunError, Task, Verdict
from probemap.runs.definitions import ANSWER, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.selection import describe_verdicts, selection_warnings
from probemap.tasks.supplied import read_manual_labels

ROWS = [
    ("vienna", "Where is Vienna?", ["Austria"], "Vienna lies in Austria."),
    ("lima", "Where is Lima?", ["Peru"], "Lima? That must be Chile."),
    ("rome", "Where is Rome?", ["Italy"], "In the land of pasta."),
    ("oslo", "Where is Oslo?", ["Norway"], "Norway, I should think."),
    ("bern", "Where is Bern?", ["Switzerland"], ""),
]
SERVER: dict[str, Any] = {"endpoint": "http://judge/v1", "served": "judge"}


@pytest.fixture
def run(chat_folder: Path, tmp_path: Path) -> Run:
    """Five answers that somebody gave to open questions."""
    rows = [{"id": i, "question": q, "answers": gold} for i, q, gold, _ in ROWS]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, _, _, t in ROWS))
    given: dict[str, Any] = {"answers": str(tmp_path / "a.jsonl")}
    return execute(ANSWER, tmp_path / "run", data=tmp_path / "q.jsonl", model=chat_folder, **given)


VERDICTS = {
    "Rome": {"quote": "land of pasta", "grade": "CORRECT"},
    "Vienna": {"quote": "Austria", "grade": "CORRECT"},
    "Oslo": {"quote": "Sweden", "grade": "CORRECT"},  # a quotation that the answer does not contain
    "Lima": {"quote": "must be Chile", "grade": "INCORRECT"},
}


class Judge(FakeEndpoint):
    """A server whose model knows Rome and misquotes Oslo, and copies the country it reads."""

    usage: dict[str, int] | None = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch, self.reply)
        self.asked: list[str] = []

    def reply(self, path: str, body: dict[str, Any]) -> Any:
        (message,) = body["messages"]
        assert (body["temperature"], body["response_format"]["type"]) == (0.0, "json_schema")
        asked = message["content"]
        self.asked.append(asked)
        given = asked.rpartition("Question: ")[2]
        if "Accepted answers" in given:
            return chat_reply(json.dumps(VERDICTS[given.split("Where is ")[1].split("?")[0]]), usage=self.usage)
        assert not any(f'"{gold}"' in given for _, _, golds, _ in ROWS for gold in golds)
        country = next((c for c in ("Austria", "Chile", "Norway") if c in given), "")
        reply = json.dumps({"sentence": "", "exact_answer": country})
        return chat_reply(f"<think>\nhm\n</think>\n\n{reply}", usage=self.usage)


BOTH: dict[str, Any] = {"locator": "model", "judge": "model", **SERVER}


def test_a_model_s_verdicts_are_kept_and_where_it_differs_a_person_may_decide(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, told = Judge(monkeypatch), list[str]()
    execute(JUDGE, run, Context(logger=Logger(told.append)), **BOTH)
    made = {j.id: j for j in run.read_judgements()}
    assert {i: (j.verdict.correct, j.verdict.reason) for i, j in made.items()} == {
        "vienna": (True, "the judge says correct"),
        "lima": (False, "the judge says incorrect"),
        "rome": (True, "the judge says correct"),
        "oslo": (None, "the judge quotes words that the answer does not contain"),
        "bern": (None, "empty"),
    }
    assert {i: j.span and j.span.text for i, j in made.items()} == {
        "vienna": "Austria",
        "lima": "Chile",
        "rome": None,
        "oslo": "Norway",
        "bern": None,
    }
    rows = [json.loads(line) for line in (run.path / "disagreements.jsonl").read_text().splitlines()]
    assert [(r["id"], r["rules"]["correct"], r["model"]["correct"], r["correct"]) for r in rows] == [
        ("rome", False, True, True),
        ("oslo", True, None, None),
    ]
    assert (rows[0]["model"]["quote"], rows[1]["model"]["quote"]) == ("land of pasta", None)
    assert rows[1]["rules"]["reason"] == "names an accepted answer"
    assert (rows[1]["answer"], rows[1]["accepted"], rows[1]["exact_answer"]) == (ROWS[3][3], ["Norway"], "Norway")
    file = run.path / "disagreements.jsonl"
    assert told == [
        "requesting verdicts from judge at http://judge/v1: 4 requests, about 2900 tokens",
        "requesting exact answers from judge at http://judge/v1: 4 requests, about 1800 tokens",
        "the rules and the model find the same exact answer in 2 of 2 answers",
        "judge at http://judge/v1 and the rules agree on 3 of 5 verdicts, Cohen's kappa 0.41 (95 % interval -0.20 to "
        "1.00); on 2 of 3 that both decide",
        f"judge at http://judge/v1 and the rules disagree on 2 answers; see {file}\nhint: edit `correct` and "
        f"`exact_answer` there, then repeat the command with --decided {file} --redo",
        "q (kind open): 5 answers: 2 correct, 1 incorrect, 2 undecided "
        "(the judge quotes words that the answer does not contain: 1, empty: 1)",
    ]

    rows[0] |= {"correct": False, "exact_answer": "land of pasta"}
    rows[1] |= {"correct": True}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = len(server.asked)
    execute(JUDGE, run, redo=True, **(BOTH | {"decided": str(file)}))
    decided = {j.id: j for j in run.read_judgements()}
    assert len(server.asked) == asked, "what was said is not asked for again"
    assert [decided[i].verdict.reason for i in ("rome", "oslo")] == [
        "incorrect by manual label",
        "correct by manual label",
    ]
    assert [decided[i].span.text for i in ("rome", "oslo")] == ["land of pasta", "Norway"]  # type: ignore[union-attr]
    assert {i: decided[i] for i in ("vienna", "lima", "bern")} == {i: made[i] for i in ("vienna", "lima", "bern")}
    kept = run.path / "earlier" / "001-judge" / "disagreements.jsonl"
    assert json.loads(kept.read_text().splitlines()[0])["exact_answer"] == "land of pasta"


def test_what_a_person_decided_is_never_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is typed into, passed back with a slip, mended, and passed back again and again."""
    Judge(monkeypatch)
    execute(JUDGE, run, **BOTH)
    file = run.path / "disagreements.jsonl"
    again = BOTH | {"decided": str(file)}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0] |= {"correct": False, "exact_answer": "lnd of pasta"}
    typed = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(typed)
    for _ in range(2):
        with pytest.raises(DataError, match="'lnd of pasta' does not occur in the answer to 'rome'"):
            execute(JUDGE, run, redo=True, **again)
        assert file.read_text() == typed
        assert len(run.read_judgements()) == 5, "the verdicts of before are there"
    file.write_text(typed.replace("lnd", "land"))
    for _ in range(3):
        execute(JUDGE, run, redo=True, **again)
        (rome, _) = (json.loads(line) for line in file.read_text().splitlines())
        assert (rome["correct"], rome["exact_answer"], rome["model"]["correct"]) == (False, "land of pasta", True)
        (made,) = (j for j in run.read_judgements() if j.id == "rome")
        assert (made.verdict.reason, made.span and made.span.text) == ("incorrect by manual label", "land of pasta")


def test_a_verdict_that_came_with_the_answer_is_not_asked_for(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Judge(monkeypatch)
    rows = [{"id": i, "question": q, "answers": gold} for i, q, gold, _ in ROWS[:2]]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{"id": i, "text": t, **({"correct": False} if i == "vienna" else {})} for i, _, _, t in ROWS[:2]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    given: dict[str, Any] = {"answers": str(tmp_path / "a.jsonl")}
    made = execute(ANSWER, tmp_path / "run", data=tmp_path / "q.jsonl", model=chat_folder, **given)
    execute(JUDGE, made, locator="none", judge="model", **SERVER)
    assert [j.verdict.reason for j in made.read_judgements()] == ["supplied as incorrect", "the judge says incorrect"]
    assert len(server.asked) == 1


def test_another_model_at_the_same_address_is_another_judge(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Judge(monkeypatch)
    for name in ("one", "two"):
        server.names = (name,)
        execute(JUDGE, run, redo=True, locator="none", judge="model", endpoint="http://judge/v1", served="")
    assert len(server.asked) == 8
    assert {o.who for o in run.read_judge_responses()} == {"one at http://judge/v1", "two at http://judge/v1"}


def test_a_password_is_not_written_into_the_folder() -> None:
    with pytest.raises(RunError, match=r"contains a user name or a password\nhint: .* OPENAI_API_KEY"):
        Endpoint("http://me:secret@judge/v1")


def test_opinions_outlive_a_kill_but_for_a_torn_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Judge(monkeypatch)
    execute(JUDGE, run, locator="none", judge="model", **SERVER)
    file = run.path / "opinions.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    (run.path / "verdicts.jsonl").unlink()
    before = len(server.asked)
    execute(JUDGE, run, locator="none", judge="model", **SERVER)
    assert len(server.asked) == before + 1
    assert file.read_bytes() == whole
    file.write_bytes(b'{"who": 1}\n')
    with pytest.raises(RunError, match=r"opinions\.jsonl, line 1 is damaged"):
        execute(JUDGE, run, redo=True, locator="none", judge="model", **SERVER)


def test_the_model_that_answered_can_be_asked_as_well(run: Run, chat_model: Model) -> None:
    told: list[str] = []
    network = copy.deepcopy(chat_model.network)
    network.config.max_position_embeddings = 2048  # room for the worked examples
    loader = run.loader()
    execute(
        JUDGE,
        run,
        Context(models={loader: replace(chat_model, network=network)}, logger=Logger(told.append)),
        locator="none",
        judge="model",
    )
    assert told[0].startswith("requesting verdicts from tiny-chat ")
    assert told[0].endswith(": 4 texts")
    assert len(run.read_judge_responses()) == 4


def test_a_server_without_a_question_to_ask_it_is_refused(run: Run) -> None:
    with pytest.raises(
        RunError, match="the rules determine verdicts and exact answers\nhint: add --judge model or --locator model"
    ):
        execute(JUDGE, run, locator="none", **SERVER)


# --- what is asked, and what is read from a reply ---


def test_whether_a_cut_off_answer_is_decided_does_not_depend_on_the_verdict() -> None:
    example = TASK.examples[0]

    def verdicts(text: str) -> list[bool | None]:
        answer = make_answer(text, [text], ["?"], stopped=False)
        responses = iter(("yes", "no", "?"))
        return [grade_answer(TASK, example, answer, lambda e, t: parse_verdict(next(responses))).correct for _ in "123"]

    assert verdicts("Ro") == [None, None, None]
    assert verdicts("It is Rome. It") == [True, False, None]
    empty = make_answer("", [], ["?"], stopped=False)
    assert grade_answer(TASK, example, empty, lambda e, t: parse_verdict("yes")).correct is None, "no text, no prompt"


# --- decisions ---

TASK = Task("t", tuple(Example(i, q, tuple(gold)) for i, q, gold, _ in ROWS), "open")


def decisions(folder: Path, *rows: Any) -> Callable[[], Any]:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda: read_manual_labels(folder / "d.jsonl", TASK)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "rome"}], "row 1: the field 'id' or 'correct' is missing"),
        ([{"id": "paris", "correct": True}], "row 1: unknown question id 'paris'"),
        ([{"id": "rome", "correct": True}] * 2, "row 2: duplicate label for 'rome'"),
        ([{"id": "rome", "correct": "perhaps"}], "row 1: 'correct' must be true, false or null, got 'perhaps'"),
        (
            [{"id": "rome", "correct": None, "exact_answer": 7}],
            "row 1: 'exact_answer' must be a string or null, got int",
        ),
    ],
)
def test_bad_decisions_are_refused(rows: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        decisions(tmp_path, *rows)()


def test_an_exact_answer_must_stand_in_the_answer(run: Run, tmp_path: Path) -> None:
    decisions(tmp_path, {"id": "lima", "correct": False, "exact_answer": "Bolivia"})
    with pytest.raises(DataError, match="'Bolivia' does not occur in the answer to 'lima'\nhint: copy it"):
        execute(JUDGE, run, locator="none", decided=str(tmp_path / "d.jsonl"))
    decisions(tmp_path, {"id": "lima", "correct": None, "exact_answer": "Chile"}, {"id": "oslo", "correct": False})
    execute(JUDGE, run, locator="none", decided=str(tmp_path / "d.jsonl"))
    made = {j.id: j for j in run.read_judgements()}
    assert made["lima"].span is not None
    assert made["lima"].span.text == "Chile"
    assert made["lima"].verdict.reason == "undecided by manual label"
    assert (made["oslo"].verdict.correct, made["oslo"].span) == (False, None)
    assert made["vienna"].verdict.reason == "names an accepted answer"


# What is said about the verdicts


CORRECT, REFUSAL = Verdict(True, "names an accepted answer"), Verdict(None, "refusal")
CUT_OFF = Verdict(None, "cut off before an answer")


def texts(stopped: list[bool], length: int = 4) -> list[Any]:
    return [make_answer("a" * length, list("a" * length), ["?"], stopped=value) for value in stopped]


def test_describe_verdicts_counts_reasons() -> None:
    assert describe_verdicts([CORRECT] * 3 + [Verdict(False, "x")]) == "4 answers: 3 correct, 1 incorrect, 0 undecided"
    assert describe_verdicts([CORRECT] * 8 + [CUT_OFF] * 3 + [REFUSAL]) == (
        "12 answers: 8 correct, 0 incorrect, 4 undecided (cut off before an answer: 3, refusal: 1)"
    )


def test_selection_warnings_for_answers_that_were_cut_off() -> None:
    verdicts = [CORRECT] * 8 + [CUT_OFF] * 3 + [REFUSAL]
    assert selection_warnings(verdicts, texts([True] * 12)) == []
    assert selection_warnings(verdicts, texts([True] * 7 + [False] * 4 + [True])) == [
        "4 answers were cut off, and only 25 % of them are decided (88 % of the others)\n"
        "hint: the map leaves out long answers; use a higher --max-new-tokens, or ask for short answers"
    ]


def test_selection_warnings_for_length() -> None:
    verdicts = [CORRECT] * 30 + [REFUSAL] * 25
    same = texts([True] * 55)
    assert selection_warnings(verdicts, same) == []
    longer = texts([True] * 30) + texts([True] * 25, length=9)
    (warning,) = selection_warnings(verdicts, longer)
    assert warning.startswith(
        "the undecided answers are longer than the decided ones (AUC 1.00)\nhint: the map describes"
    )
    assert selection_warnings(verdicts[:49], longer[:49]) == [], "19 undecided answers are too few"
