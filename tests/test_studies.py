"""The paper's other questions on run folders: what the verbs write, say, refuse, and go on from."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import execute
from typer.testing import CliRunner

from probemap.cli.main import app
from probemap.logger import Logger
from probemap.maps.fit import fit_map
from probemap.models.model import Model, load_model
from probemap.models.prompts import Prompt
from probemap.models.retokenise import retokenise_with_logprobs
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer, ProbemapError, RunError, TextAnswer
from probemap.runs.definitions import (
    ANSWER,
    BASELINES,
    CAPTURE,
    CHOOSE,
    ERRORS,
    JUDGE,
    MAP,
    P_TRUE,
    P_TRUE_EXACT,
    RESAMPLE,
    TRANSFER,
)
from probemap.runs.options import ResampleOptions
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.samples import each_question, sample_id
from probemap.studies.generalisation import evaluate_within

K = 6


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


@pytest.fixture(scope="module")
def sampled_folder(mapped: Path, chat_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mapped` with samples that somebody made up: see `texts`."""
    run = Run.open(shutil.copytree(mapped, tmp_path_factory.mktemp("sampled") / "RUN"))
    inputs = {name: run.sha256(name) for name in ("task.json", "answers.jsonl")}
    with run.locked():
        run.begin(RESAMPLE, ResampleOptions(k=K), inputs, redo=False, log=lambda text: None)
        pairs = [
            (
                Prompt(a.prompt, a.token_ids[: a.n_prompt], a.offsets[: a.n_prompt], is_chat=True),
                TextAnswer(sample_id(a.id, s), text),
            )
            for number, a in enumerate(run.answers)
            for s, text in enumerate(texts(number))
        ]
        run.append_answers(retokenise_with_logprobs(TransformersEngine(chat_model), pairs), "resamples.jsonl")
        run.finish(RESAMPLE, 0.0)
    return run.path


@pytest.fixture
def sampled(sampled_folder: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(sampled_folder, tmp_path / "RUN"))


def texts(i: int) -> list[str]:
    """Six answers to `i` + 5: a fourth of the questions each refused, always right, wrong alike, all different."""
    return {
        0: ["I do not know."] * 4 + [f"It is {i + 5}."] * 2,
        1: [f"It is {i + 5}."] * 6,
        2: [f"It is {i + 9}."] * 5 + [f"It is {i + 5}."],
        3: [f"It is {i + k}." for k in (4, 5, 6, 7, 8, 9)],
    }[i % 4]


def refused(*words: Any) -> str:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(call.exception, ProbemapError), call.output
    return str(call.exception)


def said(*words: Any) -> tuple[str, str]:
    """(stdout, stderr) of a verb."""
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert call.exit_code == 0, call.output
    return call.stdout, call.stderr


def test_the_model_is_asked_again_with_the_very_same_prompts(run: Run, chat_model: Model) -> None:
    own = list(run.answers)
    said("resample", run.path, "--k", 3)
    samples = {a.id: a for a in run.read_answers("resamples.jsonl", "resample")}
    assert set(samples) == {sample_id(a.id, s) for a in own for s in range(3)}
    for answered in own:
        three = [samples[sample_id(answered.id, s)] for s in range(3)]
        assert {a.token_ids[: a.n_prompt] for a in three} == {answered.token_ids[: answered.n_prompt]}
        assert len({a.token_ids for a in three}) == 3, "drawn anew"
    stdout, stderr = said("resample", run.path, "--k", 3)
    assert (stdout, stderr.strip()) == ("", "")  # done already
    message = refused("resample", run.path, "--k", 4)
    assert "resamples.jsonl was created with different options or inputs: k was 3, now 4" in message
    assert f"hint: `probemap resample {run.path} --redo` repeats the step and moves the old result" in message


def test_interrupted_samples_go_on_and_are_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"k": 2, "batch_size": 16}
    execute(RESAMPLE, run, **options)
    whole = (run.path / "resamples.jsonl").read_bytes()
    execute(RESAMPLE, run, redo=True, **options)
    assert (run.path / "earlier/001-resample/resamples.jsonl").read_bytes() == whole
    assert (run.path / "resamples.jsonl").read_bytes() == whole
    append = Run.append_answers
    batches = iter(range(100))

    def dies(self: Run, answers: list[Answer], name: str = "answers.jsonl") -> None:
        if next(batches) == 7:  # 5 batches of 16 are a sample of all 80
            raise KeyboardInterrupt
        append(self, answers, name)

    monkeypatch.setattr(Run, "append_answers", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(RESAMPLE, run, redo=True, **options)
    monkeypatch.undo()
    with (run.path / "resamples.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    assert f"the samples in {run.path} are missing or incomplete" in refused("errors", run.path)
    lines: list[str] = []
    execute(RESAMPLE, run, Context(logger=Logger(log=lines.append)), **options)
    assert lines == ["112 of 160 samples already exist"]
    assert (run.path / "resamples.jsonl").read_bytes() == whole


def test_samples_that_were_drawn_in_another_order_are_not_continued(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions drew the first sample of all questions before the second."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "append_answers", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(RESAMPLE, run, k=2, batch_size=16)
    monkeypatch.undo()
    rows = "".join(json.dumps({"id": sample_id(answer.id, 0)}) + "\n" for answer in run.answers)
    rows = rows[: rows.index("\n", 40 * len(rows) // 80) + 1]  # the last batch is incomplete
    (run.path / "resamples.jsonl").write_text(rows)
    message = refused("resample", run.path, "--k", 2, "--batch-size", 16)
    assert "resamples.jsonl were drawn in a different order, so they cannot be continued" in message
    assert (run.path / "resamples.jsonl").read_text() == rows, "nothing is lost"


def test_samples_are_judged_as_the_run_s_own_answers(sampled: Run) -> None:
    task = sampled.task
    found = {q.example.id: (q.answers, q.judgements) for q in each_question(sampled, task)}
    assert list(found) == [e.id for e in task.examples]
    answers, judged = found["q2"]
    assert [a.text for a in answers] == texts(2)
    assert [j.verdict.correct for j in judged] == [False] * 5 + [True]
    assert [j.span.text if j.span else None for j in judged] == ["11"] * 5 + ["7"]
    assert [j.verdict.correct for j in found["q0"][1]] == [None] * 4 + [True] * 2
    some = [(q.example.id, len(q.answers)) for q in each_question(sampled, task, [5, 1])]
    assert some == [("q5", K), ("q1", K)]


def test_kinds_of_errors(sampled: Run) -> None:
    stdout, _ = said("errors", sampled.path)
    kinds = [json.loads(line) for line in (sampled.path / "kinds.jsonl").read_text().splitlines()]
    assert [row["kinds"] for row in kinds[:4]] == ["A", "B", "C", "DE"]
    assert kinds[2] == {
        "id": "q2", "kinds": "C", "samples": 6, "right": 1, "same_wrong": 5, "refuses": 0, "different": 2,
    }  # fmt: skip
    table = sampled.read_table("errors")
    of = {str(row[0])[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [of[kind]["questions"] for kind in "ABCDE"] == [20, 20, 20, 20, 20]
    # Every second answer of the run is right: those to the even questions.
    assert [of[kind]["their answers wrong"] for kind in "ABCE"] == [0, 20, 0, 20]
    assert [of[kind]["right at least once"] for kind in "ABCE"] == [20] * 4
    assert isinstance(of["A"]["auc"], float)
    assert of["n"]["questions"] == 0
    assert table.words[0] == (
        "Of 40 incorrectly answered questions, 50% are of type B, 50% are of type D and 50% are of type E "
        "(a question may be of several types)."
    )
    for line in table.words:
        assert line in stdout
    assert "A: refuses to answer (at least half)" in stdout
    with (sampled.path / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[1]["kind"], rows[1]["questions"]) == ("B: consistently correct (at least half)", "20")
    assert (rows[3]["auc"], rows[5]["kind"], rows[5]["auc"]) == (repr(of["D"]["auc"]), "none of them", "")


def test_picking_by_a_probe_that_has_not_seen_the_question(sampled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from probemap.detectors import fit as detecting

    fitted: list[set[int]] = []
    original = detecting.fit_detector

    def noted(states: Any, correct: list[bool | None], **options: Any) -> Any:
        fitted.append({i for i, one in enumerate(correct) if one is not None})
        return original(states, correct, **options)

    monkeypatch.setattr(detecting, "fit_detector", noted)
    table = execute(CHOOSE, sampled).read_table("choose")
    assert len(fitted) == 5
    unseen = [set(range(80)) - one for one in fitted]
    assert sorted(i for one in unseen for i in one) == list(range(80))  # each question is left out once
    of = {str(row[2]): row for row in table.rows if row[0] == "all"}
    assert of["own answer"][3] == 0.5  # they came from a file
    # 2 of 6, 6 of 6, 1 of 6 and 1 of 6; the most frequent answers are right, right, wrong, and the first of all.
    assert of["random"][3] == pytest.approx((2 + 6 + 1 + 1) / 24)
    assert of["majority"][3] == 0.5
    assert of["best possible"][3] == 1.0
    by_line = [json.loads(line) for line in (sampled.path / "choices.jsonl").read_text().splitlines()]
    assert {row["id"] for row in by_line} == {f"q{i}" for i in range(80)}
    refusing = next(row for row in by_line if row["id"] == "q0")
    assert [one["by"] for one in refusing["trust"]] == ["fallback"] * 4 + ["primary"] * 2


def test_interrupted_picking_goes_on_and_is_the_same(sampled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from probemap.detectors.scorer import Scorer

    table = execute(CHOOSE, sampled).read_table("choose")
    whole = (sampled.path / "choices.jsonl").read_bytes()
    score, calls = Scorer.score, iter(range(1000))

    def dies(self: Scorer, *given: Any, **options: Any) -> Any:
        if next(calls) == 37:
            raise KeyboardInterrupt
        return score(self, *given, **options)

    monkeypatch.setattr(Scorer, "score", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(CHOOSE, sampled, redo=True)
    monkeypatch.setattr(Scorer, "score", score)
    path = sampled.path / "choices.jsonl"
    assert path.read_bytes().count(b"\n") == 37
    with path.open("ab") as file:
        file.write(b'{"id": "q')
    lines: list[str] = []
    assert execute(CHOOSE, sampled, Context(logger=Logger(log=lines.append))).read_table("choose") == table
    assert lines == ["37 of 80 questions already have scores"]
    assert path.read_bytes() == whole
    assert (sampled.path / "earlier/001-choose/choices.jsonl").read_bytes() == whole


def test_a_damaged_line_of_choices_is_named(sampled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(CHOOSE, sampled)
    path = sampled.path / "choices.jsonl"
    log = json.loads((sampled.path / "run.json").read_text())
    log["steps"]["choose"]["done"] = False
    (sampled.path / "run.json").write_text(json.dumps(log))
    stranger = '{"id": "q0", "trust": [{"by": "me", "score": 1}]}'
    for broken in ('{"id": "q0"}', "[]", "null", stranger):
        path.write_text(broken + "\n")
        assert "choices.jsonl, line 1 is damaged" in refused("choose", sampled.path)
    path.write_text('{"id": "q0", "trust": []}\n')
    assert "choices.jsonl does not contain scores for 6 samples of 'q0'" in refused("choose", sampled.path)


def test_everything_on_the_same_answers_in_one_order(sampled: Run) -> None:
    stdout, _ = said("baselines", sampled.path)
    table = sampled.read_table("baselines")
    methods = {row[0] for row in table.rows}
    assert {"entropy_mean", "entropy_max", "exact_entropy_mean", "exact_entropy_max"} <= methods
    assert {"logprob_mean", "exact_logprob_min", "p_true", "p_true_exact", "semantic_entropy", "agreement"} <= methods
    assert {"probe_last_q", "probe_exact_answer", "probe_last", "probe_before_last"} <= methods
    assert {row[2] for row in table.rows} == {80}
    assert [row[6] for row in table.rows] == list(range(1, len(table.rows) + 1))
    assert table.words[0] in stdout
    assert len(sampled.read_p_true(exact=True)) == 80
    assert sampled.is_done(P_TRUE_EXACT)


def test_without_samples_semantic_entropy_is_left_out_and_said(run: Run) -> None:
    _, stderr = said("baselines", run.path)
    assert "semantic entropy is omitted; `probemap resample` draws the samples that it requires" in stderr
    assert "semantic_entropy" not in {row[0] for row in run.read_table("baselines").rows}


def test_p_true_of_exact_answers_is_of_those_that_have_one(run: Run) -> None:
    rows = run.read_judgements()
    run.write_judgements([replace(j, span=None, no_span="by hand") if i < 30 else j for i, j in enumerate(rows)])
    said("p-true", run.path, "--exact")
    assert [b.id for b in run.read_p_true(exact=True)] == [f"q{i}" for i in range(30, 80)]
    run.write_judgements([replace(j, span=None, no_span="by hand") for j in rows])
    assert "no exact answer was located in any answer" in refused("p-true", run.path, "--exact", "--redo")


@pytest.mark.parametrize("verb", ["errors", "choose"])
def test_samples_of_other_answers_are_refused(sampled: Run, verb: str) -> None:
    assert "resamples.jsonl" not in refused(verb, sampled.path / "nowhere")
    path = sampled.path / "resamples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    message = refused(verb, sampled.path)
    assert "resamples.jsonl contains no sample 'q79#5'" in message
    assert "--redo` draws new samples" in message


def test_stale_maps_and_verdicts_are_refused(sampled: Run) -> None:
    rows = sampled.read_judgements()
    flipped = [replace(j, verdict=replace(j.verdict, correct=not j.verdict.correct)) for j in rows]
    sampled.write_judgements(flipped)
    message = refused("baselines", sampled.path)
    assert "map.nc was made before verdicts.jsonl changed" in message
    assert f"hint: `probemap map {sampled.path} --redo` repeats the step and keeps the old map" in message


def test_without_samples_errors_and_choose_say_what_to_do(run: Run) -> None:
    for verb in ("errors", "choose"):
        message = refused(verb, run.path)
        assert f"the samples in {run.path} are missing or incomplete" in message
        assert f"hint: `probemap resample {run.path}` draws them" in message


@pytest.fixture
def others(mapped: Path, chat_folder: Path, tmp_path: Path) -> Iterator[list[Run]]:
    """Two runs of one model, on other questions."""
    rows = [{"id": f"p{i}", "question": f"What is {i} - 5?", "answers": [str(i - 5)]} for i in range(60)]
    answers = [{"id": f"p{i}", "text": f"The answer is {i - 5 + i % 2}. Is it?"} for i in range(60)]
    for name, lines in (("questions", rows), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given: dict[str, Any] = {"answers": str(tmp_path / "answers.jsonl")}
    other = execute(ANSWER, tmp_path / "minus", data=tmp_path / "questions.jsonl", model=chat_folder, **given)
    execute(JUDGE, other)
    execute(CAPTURE, other)
    execute(MAP, other)
    yield [Run.open(shutil.copytree(mapped, tmp_path / "plus")), other]


def test_every_run_s_probe_on_every_run(others: list[Run]) -> None:
    plus, minus = others
    stdout, _ = said("transfer", plus.path, minus.path)
    table = plus.read_table("transfer")
    names = [str(row[0]) for row in table.rows]
    assert names == ["questions (plus)", "questions (plus)", "questions (minus)", "questions (minus)"]
    assert [row[4] for row in table.rows] == [80, 60, 80, 60]
    assert all(f"questions ({name})" in stdout for name in ("plus", "minus"))
    assert (plus.path / "transfer.png").read_bytes().startswith(b"\x89PNG")
    assert "tested on" in (plus.path / "transfer.svg").read_text()
    before = (plus.path / "transfer.csv").read_bytes()
    said("transfer", plus.path, minus.path, "--redo")
    assert (plus.path / "transfer.csv").read_bytes() == before
    earlier = plus.path / "earlier/001-transfer"
    assert {p.name for p in earlier.iterdir()} == {
        "step.json", "transfer.json", "transfer.csv", "transfer.jsonl", "transfer.png", "transfer.svg",
    }  # fmt: skip
    assert not (minus.path / "transfer.csv").exists()


def test_runs_that_cannot_be_compared_are_refused(others: list[Run], run: Run) -> None:
    plus, minus = others
    assert "only one run was given" in refused("transfer", plus.path)
    assert "2 runs were given, some of them more than once" in refused("transfer", plus.path, plus.path)
    log = json.loads((minus.path / "run.json").read_text())
    log["steps"]["answer"]["facts"]["revision"] = "other"
    (minus.path / "run.json").write_text(json.dumps(log))
    message = refused("transfer", plus.path, minus.path)
    assert f"the states of {minus.path} and {plus.path} differ: " in message and "revision 'other', not '" in message
    assert "hint: compare runs of the same model at the same site" in message


def test_samples_and_picks_need_the_weights_that_answered(run: Run, base_folder: Path) -> None:
    with pytest.raises(RunError, match="were generated with different weights of tiny-base"):
        execute(RESAMPLE, run, Context(models={run.loader(): load_model(base_folder)}), k=2)
    assert load_model(base_folder).label == "tiny-base"


def test_another_number_of_folds_is_another_result(sampled: Run) -> None:
    execute(ERRORS, sampled)
    with pytest.raises(RunError, match=r"kinds.jsonl was created with different options or inputs: folds was 5, now 4"):
        execute(ERRORS, sampled, folds=4)
    assert sampled.answers


# --- what changed, and what cannot be asked ---


def changed_step(run: Run, step: str, **changes: Any) -> None:
    """As if a step had been made otherwise."""
    log = json.loads((run.path / "run.json").read_text())
    for part, values in changes.items():
        log["steps"][step][part] |= values
    (run.path / "run.json").write_text(json.dumps(log))


def test_states_that_were_captured_otherwise_are_another_result(sampled: Run) -> None:
    execute(ERRORS, sampled)
    execute(CAPTURE, sampled, redo=True, site="mlp_out")
    assert "was created with different options or inputs: changed input: activations" in refused("errors", sampled.path)


def test_errors_that_were_interrupted_go_on(sampled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from probemap.studies import errors as room

    table = execute(ERRORS, sampled).read_table("errors")
    calls, fitted = iter(range(100)), list[int]()

    def dies(*given: Any, **options: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        fitted.append(1)
        return fit_map(*given, **options)

    monkeypatch.setattr(room, "fit_map", dies)
    with pytest.raises(KeyboardInterrupt):
        execute(ERRORS, sampled, redo=True)
    assert len((sampled.path / "errors.jsonl").read_text().splitlines()) == 2
    assert execute(ERRORS, sampled).read_table("errors") == table  # it dies at the third call alone
    assert len(fitted) == 5
    assert {p.name for p in (sampled.path / "earlier/001-errors").iterdir()} == {
        "step.json", "errors.json", "errors.csv", "errors.jsonl", "kinds.jsonl",
    }  # fmt: skip


def test_two_folds_leave_nothing_to_choose_a_cell_by(sampled: Run) -> None:
    message = refused("errors", sampled.path, "--folds", 2)
    assert message == "nested CV is not possible with 2 folds\nhint: use 3 or more folds"


def test_p_true_goes_on_where_it_was_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(P_TRUE, run)
    whole = (run.path / "p_true.jsonl").read_bytes()
    assert len(run.read_p_true()) == 80
    changed_step(run, "p-true", facts={})
    log = json.loads((run.path / "run.json").read_text())
    log["steps"]["p-true"]["done"] = False
    (run.path / "run.json").write_text(json.dumps(log))
    lines = whole.splitlines(keepends=True)
    (run.path / "p_true.jsonl").write_bytes(b"".join(lines[:50]) + lines[50][:9])
    said_: list[str] = []
    execute(P_TRUE, run, Context(logger=Logger(log=said_.append)))
    assert said_ == ["50 of 80 answers already have a p(True)"]
    again = [b.p_true for b in run.read_p_true()]
    assert again == pytest.approx([json.loads(line)["p_true"] for line in lines], abs=1e-6)


def test_verdicts_by_hand_are_told_apart_from_those_of_the_samples(sampled: Run) -> None:
    rows = sampled.read_judgements()
    sampled.write_judgements(
        [
            replace(j, verdict=replace(j.verdict, correct=not j.verdict.correct)) if i < 7 else j
            for i, j in enumerate(rows)
        ]
    )
    table = execute(ERRORS, sampled).read_table("errors")
    assert table.words[-1] == (
        "Note: 7 of the 80 answers in the run have a manual or supplied verdict that differs from the verdict of the "
        "judge used for the samples."
    )


def test_without_accepted_answers_nobody_can_judge_samples(sampled: Run) -> None:
    task = sampled.task
    sampled.write_task(replace(task, examples=tuple(replace(e, answers=()) for e in task.examples)))
    log = json.loads((sampled.path / "run.json").read_text())
    for step in ("judge", "resample"):
        log["steps"][step]["inputs"]["task.json"] = sampled.sha256("task.json")
    (sampled.path / "run.json").write_text(json.dumps(log))
    message = refused("errors", sampled.path)
    assert "80 questions have no accepted answers, so their samples cannot be judged" in message


def test_own_answers_that_were_drawn_are_not_called_greedy(sampled: Run) -> None:
    changed_step(sampled, "answer", options={"temperature": 1.0, "answers": None})
    assert execute(CHOOSE, sampled).read_table("choose").rows[0][2] == "own answer"
    changed_step(sampled, "answer", options={"temperature": 0.0})
    assert execute(CHOOSE, sampled, redo=True).read_table("choose").rows[0][2] == "greedy"


def test_prompts_that_leave_no_room_are_refused(run: Run) -> None:
    task = run.task
    run.write_task(replace(task, max_new_tokens=100_000))
    with pytest.raises(ProbemapError, match=r"80 questions exceed the context window of tiny-chat \(256 tokens"):
        execute(RESAMPLE, run, k=2)


def test_places_that_depend_on_the_verdict_are_no_evidence(sampled: Run, others: list[Run]) -> None:
    plus, minus = others
    for run_ in (sampled, minus):
        changed_step(run_, "judge", options={"locator": "paper"})
    for words in (("baselines", sampled.path), ("errors", sampled.path), ("transfer", plus.path, minus.path)):
        message = refused(*words)
        assert "the position of the exact answer depends on the verdict (--locator paper)" in message
        assert "with a different --locator" in message


def test_baselines_do_without_exact_answers(sampled: Run) -> None:
    sampled.write_judgements([replace(j, span=None, no_span="by hand") for j in sampled.read_judgements()])
    execute(CAPTURE, sampled, redo=True)
    execute(MAP, sampled, redo=True)
    table = execute(BASELINES, sampled).read_table("baselines")
    names = {row[0] for row in table.rows}
    assert "p_true" in names
    assert not {"p_true_exact", "exact_logprob_min", "probe_exact_answer"} & names
    assert (
        "Not ranked, because the map has none of their positions, or too few answers at them: probe_exact_answer."
        in (table.words)
    )


def test_a_map_that_was_made_before_p_true_stays_up_to_date(run: Run) -> None:
    execute(BASELINES, run)
    told: list[str] = []
    run.read_map(told.append)
    assert told == []
    execute(MAP, run, redo=True)
    (run.path / "p_true.jsonl").write_text("")
    run.read_map(told.append)
    assert told[0].startswith("map.nc was made before p_true.jsonl changed")


def test_runs_of_other_weights_or_maps_without_inner_folds_cannot_be_compared(others: list[Run]) -> None:
    plus, minus = others
    execute(MAP, minus, redo=True, folds=2)
    message = refused("transfer", plus.path, minus.path)
    assert f"the map of {minus.path} was fitted without nested cross-validation" in message
    assert f"hint: fit it again with `probemap map {minus.path} --protocol probemap --folds 5 --redo`" in message
    changed_step(minus, "answer", options={"quantize": "4bit"})
    assert "quantisation '4bit', not 'none'" in refused("transfer", plus.path, minus.path)


def test_a_done_transfer_notices_what_has_changed_since(others: list[Run]) -> None:
    plus, minus = others
    said("transfer", plus.path, minus.path)
    (plus.path / "transfer.png").unlink()
    said("transfer", plus.path, minus.path)
    assert (plus.path / "transfer.png").exists(), "a picture that is missing is drawn again"
    minus.write_judgements([replace(j, verdict=replace(j.verdict, correct=True)) for j in minus.read_judgements()])
    assert "map.nc was made before verdicts.jsonl changed" in refused("transfer", plus.path, minus.path)
    assert not (plus.path / "earlier").exists()


def test_transfer_goes_on_where_it_was_interrupted(others: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from probemap.studies import generalisation as room

    (plus, _), across = others, room.evaluate_across
    monkeypatch.setattr(room, "evaluate_across", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        execute(TRANSFER, others[0], others=[str(r.path) for r in others[1:]])
    assert [json.loads(line)["id"] for line in (plus.path / "transfer.jsonl").read_text().splitlines()] == [
        "questions (plus) on questions (plus)"
    ]
    monkeypatch.setattr(room, "evaluate_across", across)
    monkeypatch.setattr(
        room, "evaluate_within", lambda one: evaluate_within(one) if "minus" in one.name else pytest.fail("again")
    )
    assert len(execute(TRANSFER, others[0], others=[str(r.path) for r in others[1:]]).read_table("transfer").rows) == 4
