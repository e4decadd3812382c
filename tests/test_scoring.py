"""The same answer gets the same score from wherever it comes, and none from a model that is not the detector's."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from typer.testing import CliRunner, Result

from probemap.activations.forward import hidden_states
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.detectors import scorer as scoring
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Cell
from probemap.detectors.provenance import Provenance
from probemap.detectors.scorer import Score, Scorer, check_belongs, generate_with_score, in_parts
from probemap.grading.locate import locate_answer
from probemap.models.model import Model, load_model
from probemap.records import DataError, DetectorError, Example, ProbemapError, RunError, Task, TextAnswer
from probemap.runs.run import Run
from probemap.runs.steps.export import export


def probemap(*words: Any) -> Result:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert call.exit_code == 0, call.output
    return call


def refused(*words: Any) -> str:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(call.exception, ProbemapError), call.output
    return str(call.exception)


def rows_of(mapped: Path, count: int) -> list[dict[str, Any]]:
    run = Run.open(mapped)
    task = run.task
    pairs = zip(task.examples, run.answers, strict=True)
    return [{"id": e.id, "question": e.question, "answer": a.text} for e, a in pairs][:count]


def test_a_run_gives_a_detector_that_knows_where_it_belongs(detector: Detector, chat_model: Model) -> None:
    provenance = detector.required_provenance()
    assert (provenance.model, provenance.revision, provenance.template) == (
        "tiny-chat",
        chat_model.revision,
        chat_model.template_sha256,
    )
    assert (provenance.frame, provenance.locator, provenance.site) == ("chat", "numbers", "resid")
    assert provenance.task.examples == ()
    assert [(c.layer, c.position) for c in detector.main.cells] == [(2, "exact_answer_last")]
    assert detector.fallback is not None
    assert not detector.fallback.cells[0].position.startswith("exact")
    check_belongs(detector, chat_model)


def test_the_same_answer_gets_the_same_score_everywhere(
    mapped: Path, detector: Detector, detector_folder: Path, chat_model: Model, tmp_path: Path
) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)
    scorer = Scorer(detector, chat_model)
    whole = scorer.score(task.examples, answers)
    assert [s.id for s in whole] == [e.id for e in task.examples]
    assert {s.judged_by for s in whole} == {"main"}
    assert all(s.exact_answer == str(i + 5 + i % 2) for i, s in enumerate(whole))
    expected = [s.p_correct for s in whole]
    alone = [scorer.score([e], [a])[0].p_correct for e, a in zip(task.examples[:8], answers[:8], strict=True)]
    assert alone == pytest.approx(expected[:8], abs=1e-5)
    texts = [(replace(e, answers=("",)), TextAnswer(e.id, a.text)) for e, a in zip(task.examples, answers, strict=True)]
    made = scorer.answers(texts)
    assert [a.token_ids for a in made] == [a.token_ids for a in answers]
    assert [s.p_correct for s in scorer.score(task.examples, made)] == pytest.approx(expected, abs=1e-5)
    again = Detector.load(shutil.copytree(detector_folder, tmp_path / "elsewhere"))
    assert [s.p_correct for s in Scorer(again, chat_model).score(task.examples, answers)] == expected

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(mapped, 80)))
    for source in (mapped, tmp_path / "rows.jsonl"):
        lines = [
            json.loads(line)
            for line in probemap("score", detector_folder, source, "--batch-size", 7).stdout.splitlines()
        ]
        assert [line["p_correct"] for line in lines] == pytest.approx(expected, abs=1e-5)
        assert [line["flagged"] for line in lines] == [s.flagged for s in whole]


def test_the_score_is_that_of_the_stored_states(mapped: Path, detector: Detector, chat_model: Model) -> None:
    store = ActivationStore.open(mapped / "activations")
    scores = detector.main.scores(store.read(2, "exact_answer_last")[:, None])
    run = Run.open(mapped)
    task = run.task
    made = Scorer(detector, chat_model).score(task.examples, list(run.answers))
    assert [s.score for s in made] == pytest.approx(scores.tolist(), abs=1e-4)
    below = detector.main.threshold(0.05).score
    assert [s.flagged for s in made] == [score < below for score in scores]


def test_an_answer_without_an_exact_answer_goes_to_the_fallback_and_says_so(
    detector: Detector, chat_model: Model
) -> None:
    scorer = Scorer(detector, chat_model)
    example = Example("x", "What is 1 + 5?", ("",))
    (said,) = scorer.score([example], scorer.answers([(example, TextAnswer("x", "I do not know."))]))
    assert detector.fallback is not None
    cell = detector.fallback.cells[0]
    assert (said.judged_by, said.exact_answer) == ("fallback", None)
    assert said.why == f"no exact answer found: judged by layer {cell.layer} at {cell.position}"
    assert said.p_correct is not None
    (unjudged,) = Scorer(replace(detector, fallback=None), chat_model).score(
        [example], scorer.answers([(example, TextAnswer("x", "?"))])
    )
    assert (unjudged.judged_by, unjudged.p_correct, unjudged.flagged) == ("none", None, None)


def test_another_model_never_gets_a_number(detector: Detector, chat_model: Model, tmp_path: Path) -> None:
    other = load_model(save_tiny_model(tmp_path / "other", byte_level_tokenizer(), seed=1))
    with pytest.raises(DetectorError, match=r"made for tiny-chat with weights .*…, this is other with .*\nhint:"):
        Scorer(detector, other)
    changed = replace(detector, provenance=replace(detector.required_provenance(), template="0" * 64))
    with pytest.raises(DetectorError, match="with chat template 0000000000000000…, this is tiny-chat with"):
        Scorer(changed, chat_model)
    unknown = replace(detector, provenance=replace(detector.required_provenance(), revision="", template=""))
    deep = replace(unknown, main=replace(unknown.main, cells=(replace(unknown.main.cells[0], layer=9),)))
    with pytest.raises(DetectorError, match="reads layer 9, tiny-chat has 4"):
        Scorer(deep, chat_model)
    wide = replace(unknown, main=replace(unknown.main, weight=unknown.main.weight[:, :5]))
    with pytest.raises(DetectorError, match="reads states of width 5, those of tiny-chat have 32"):
        Scorer(wide, chat_model)
    with pytest.raises(
        DetectorError, match=r"no threshold for 0\.3 of right answers\nhint: there are those for 0\.05, 0\.2"
    ):
        Scorer(detector, chat_model, 0.3)


def test_what_this_version_could_not_find_in_an_answer_is_refused(detector: Detector, chat_model: Model) -> None:
    other = replace(detector, provenance=replace(detector.required_provenance(), locator="oracle"))
    with pytest.raises(DetectorError, match=r"found by 'oracle'.*does not know\nhint: there are names"):
        Scorer(other, chat_model)
    nowhere = replace(detector.main, cells=(Cell(2, "middle"),))
    with pytest.raises(DataError, match=r"there is no position 'middle'; the positions are "):
        Scorer(replace(detector, main=nowhere), chat_model)


# --- fitted in code ---


def fitted_in_code(mapped: Path, provenance: Provenance | None) -> tuple[Detector, np.ndarray]:
    """A detector of the states and verdicts of a run, and its states, (n, cells, d)."""
    store = ActivationStore.open(mapped / "activations")
    correct = [judgement.verdict.correct for judgement in Run.open(mapped).read_judgements()]
    cells = [(2, "exact_answer_last")]
    made = fit_detector(store, correct, cells=cells, held_out=0.6, provenance=provenance)
    return made, np.stack([store.read(cell.layer, cell.position) for cell in made.cells], axis=1)


def test_detector_fitted_in_code_scores_text_as_it_scores_the_stored_state(mapped: Path, chat_model: Model) -> None:
    run = Run.open(mapped)
    rows = rows_of(mapped, 80)
    for provenance in (Provenance.of(chat_model, run.task, locator="numbers"), run.provenance):
        made, states = fitted_in_code(mapped, provenance)
        stored = made.p_correct(states)
        scorer = Scorer(made, chat_model)
        pairs = [(Example(row["id"], row["question"], ("",)), TextAnswer(row["id"], row["answer"])) for row in rows]
        scores = scorer.score([example for example, _ in pairs], scorer.answers(pairs))
        assert [s.p_correct for s in scores] == pytest.approx(stored.tolist(), abs=1e-5)
        assert [s.score for s in scores] == pytest.approx(made.main.scores(states[:, :1]).tolist(), abs=1e-5)
        for row, p in zip(rows[:3], stored, strict=False):
            assert made.score(chat_model, row["question"], row["answer"]).p_correct == pytest.approx(p, abs=1e-5)
    bare = Provenance.of(chat_model, run.task, frame="none")
    made, states = fitted_in_code(mapped, bare)
    score = made.score(chat_model, rows[0]["question"], rows[0]["answer"]).score
    assert score != pytest.approx(made.main.scores(states[:1, :1])[0], abs=1e-2), "the chat template matters"


def test_detector_without_provenance_scores_states_and_refuses_text(
    mapped: Path, chat_model: Model, tmp_path: Path
) -> None:
    made, states = fitted_in_code(mapped, None)
    assert np.isfinite(made.p_correct(states)).all()
    made.save(tmp_path / "d")
    again = Detector.load(tmp_path / "d")
    assert again.provenance is None
    assert np.array_equal(again.p_correct(states), made.p_correct(states))
    for unknown in (made, again):
        with pytest.raises(
            DetectorError, match=r"has no provenance(.|\n)*\nhint: fit it with provenance=Provenance\.of"
        ):
            unknown.score(chat_model, "What is 1 + 5?", "The answer is 6.")
        with pytest.raises(DetectorError, match="has no provenance"):
            generate_with_score(unknown, chat_model, ["What is 1 + 5?"])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows_of(mapped, 1)[0]))
    assert "has no provenance" in refused("score", tmp_path / "d", path, "--model", "anything")


def test_provenance_of_describes_model_and_task(mapped: Path, chat_model: Model, base_model: Model) -> None:
    run = Run.open(mapped)
    exported = run.provenance
    made = Provenance.of(chat_model, run.task, name=exported.name)
    assert replace(made, versions=exported.versions) == exported
    assert made.task.examples == ()
    assert Provenance.of(base_model, Task("t", (), "open")).frame == "qa"
    assert Provenance.of(base_model, Task("t", (), "open")).locator == "model"
    assert Provenance.of(chat_model, Task("t", (), "names"), frame="none", site="heads").frame == "none"


# --- one answer, from Python ---


def test_one_answer_is_scored_as_among_many(detector: Detector, chat_model: Model, mapped: Path) -> None:
    rows = rows_of(mapped, 6)
    scorer = Scorer(detector, chat_model)
    pairs = [(Example(row["id"], row["question"], ("",)), TextAnswer(row["id"], row["answer"])) for row in rows]
    many = scorer.score([example for example, _ in pairs], scorer.answers(pairs))
    for row, one in zip(rows, many, strict=True):
        made = detector.score(chat_model, row["question"], row["answer"])
        assert isinstance(made, Score)
        assert made.p_correct == pytest.approx(one.p_correct, abs=1e-5)
        assert (made.id, made.judged_by, made.exact_answer, made.flagged) == (
            "1",
            "main",
            one.exact_answer,
            one.flagged,
        )
    example = Example("mine", rows[0]["question"], ("",))
    assert detector.score(chat_model, example, rows[0]["answer"]).id == "mine"
    cut = detector.score(chat_model, example, "The answer is 5", stopped=False)
    assert cut.why.startswith("cut off inside the exact answer: judged by layer")
    prompt = scorer.prompt(example).text
    given = detector.score(chat_model, example, rows[0]["answer"], prompt=prompt)
    assert given.p_correct == pytest.approx(many[0].p_correct, abs=1e-5)
    with pytest.raises(DetectorError, match=r"no threshold for 0\.3"):
        detector.score(chat_model, example, "5", false_alarms=0.3)


def test_without_a_share_the_lowest_threshold_flags(detector: Detector, chat_model: Model, mapped: Path) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)
    flagged = {
        share: [s.flagged for s in Scorer(detector, chat_model, share).score(task.examples, answers)]
        for share in (None, 0.05, 0.2)
    }
    assert flagged[None] == flagged[0.05]
    assert flagged[None].count(True) < flagged[0.2].count(True)
    coarse = replace(detector.main, thresholds=detector.main.thresholds[1:])
    alone = Scorer(replace(detector, main=coarse, fallback=None), chat_model)
    assert [s.flagged for s in alone.score(task.examples, answers)] == flagged[0.2]
    none = replace(detector, main=replace(detector.main, thresholds=()))
    with pytest.raises(DetectorError, match="the detector has no threshold"):
        Scorer(none, chat_model)


def test_what_is_located_already_is_not_located_again(
    detector: Detector, chat_model: Model, mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)[:4]
    examples = task.examples[:4]
    scorer = Scorer(detector, chat_model)
    places = [locate_answer(task, e, a) for e, a in zip(examples, answers, strict=True)]
    whole = scorer.score(examples, answers)

    def never(*_: Any) -> Any:
        raise AssertionError("located again")

    monkeypatch.setattr(scoring, "locate_answer", never)
    assert scorer.score(examples, answers, places) == whole
    first, (span, _) = answers[0], places[0]
    assert span is not None
    later = replace(span, start=span.stop, stop=span.stop + 1, text=" there")
    moved, nowhere = scorer.score([examples[0]] * 2, [first] * 2, [(later, ""), (None, "somebody said so")])
    assert moved.exact_answer == " there"
    assert moved.score != whole[0].score
    assert nowhere.judged_by == "fallback"
    assert nowhere.why.startswith("somebody said so: judged by layer")
    with pytest.raises(DataError, match=r"3 places for 4 answers\nhint: give one place"):
        scorer.score(examples, answers, places[:3])
    for start, stop in ((0, 1), (span.start, 9999), (span.start, span.start)):
        with pytest.raises(
            DataError, match=rf"is said to be tokens {start} to {stop}, the answer is {first.answer_start} to"
        ):
            scorer.score(examples[:1], [first], [(replace(span, start=start, stop=stop), "")])


def test_weights_in_fewer_bits_are_another_model(
    mapped: Path, chat_model: Model, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    log = run.run_json()
    log["steps"]["answer"]["options"]["quantize"] = "4bit"
    run.write("run.json", json.dumps(log))
    made = export(run, tmp_path / "d", cells=[(2, "exact_answer_last")], held_out=0.6)
    assert Detector.load(tmp_path / "d").required_provenance().quantize == made.required_provenance().quantize == "4bit"
    with pytest.raises(DetectorError, match=r"made for tiny-chat with weights in 4bit…, this is tiny-chat with none"):
        Scorer(made, chat_model)

    class Four:
        load_in_4bit = True

    monkeypatch.setattr(chat_model.network.config, "quantization_config", Four(), raising=False)
    check_belongs(made, chat_model)
    loaded: list[Any] = []

    def load(name: str, *, quantize: str | None, **given: Any) -> Model:
        loaded.append(quantize)
        return chat_model

    monkeypatch.setattr("probemap.detectors.loading.load_model", load)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6."}))
    probemap("score", tmp_path / "d", tmp_path / "rows.jsonl", "--model", chat_folder)
    assert loaded == ["4bit"], "loaded as it was when the detector was made"


def test_files_are_scored_as_they_are_read() -> None:
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for k in range(1000):
            taken += 1
            yield Example(str(k), "?", ("",)), TextAnswer(str(k), "!")

    parts = in_parts(rows(), 10)
    assert [r.id for _, r in next(parts)] == [str(k) for k in range(10)]
    assert taken == 10
    assert sum(map(len, parts)) == 990


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "row 2: expected an object, got list"),
        ({"question": "q"}, r"row 2: answer is missing (fields: question)"),
        ({"question": "q", "answer": 7}, "row 2: answer is int"),
        ({"question": "q", "answer": "a", "choices": "ab"}, "row 2: choices are 'ab'"),
        ({"question": "q", "answer": "a", "stopped": "no"}, "row 2: stopped is 'no'"),
    ],
)
def test_bad_rows_are_named(row: Any, message: str, detector_folder: Path, chat_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6."}) + "\n" + json.dumps(row) + "\n")
    assert message in refused("score", detector_folder, path, "--model", chat_folder)


def test_what_cannot_be_exported_is_refused(mapped: Path, detector_folder: Path, tmp_path: Path) -> None:
    assert "holds a config.json already" in refused("export", mapped, "--out", detector_folder)
    few = refused("export", mapped, "--out", tmp_path / "d")
    assert "wrong answers are left to judge on: fewer than 20" in few
    assert not (tmp_path / "d").exists()
    for words, message in (
        (("--cell", "here"), "'here' is no cell"),
        (("--cell", "9:-1", "--held-out", "0.6"), "there is no cell (9, '-1')"),
        (("--false-alarms", "5"), "'5' are no shares"),
    ):
        assert message in refused("export", mapped, "--out", tmp_path / "d", *words)
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    log = run.run_json()
    log["steps"]["judge"]["options"]["locator"] = "paper"
    run.write("run.json", json.dumps(log))
    with pytest.raises(RunError, match="the place of the exact answer depends on the verdict"):
        export(run, tmp_path / "d", held_out=0.6)


def test_prompts_that_came_with_answers_are_needed_again(detector: Detector, chat_model: Model) -> None:
    scorer = Scorer(replace(detector, provenance=replace(detector.required_provenance(), frame="given")), chat_model)
    example = Example("x", "What is 1 + 5?", ("",))
    with pytest.raises(DataError, match="made from prompts that came with their answers"):
        scorer.answers([(example, TextAnswer("x", "6."))])
    (answer,) = scorer.answers([(example, TextAnswer("x", " 6.", prompt="What is 1 + 5? It is"))])
    assert answer.prompt == "What is 1 + 5? It is"


def test_export_tells_what_the_detector_is_worth(mapped: Path, tmp_path: Path) -> None:
    told = probemap("export", mapped, "--out", tmp_path / "d", "--cell", "3:-1", "--held-out", "0.6")
    quality = Detector.load(tmp_path / "d").main.quality
    assert (
        f"layer 3 at -1: AUC {quality.auc:.3f} [{quality.auc_low:.3f}, {quality.auc_high:.3f}] on 48 answers"
        in told.stderr
    )
    assert "5% asked for" in told.stderr
    assert told.stdout.strip() == str(tmp_path / "d")


# --- during generation ---


def test_what_is_scored_while_it_is_said_has_the_score_of_a_second_pass(detector: Detector, chat_model: Model) -> None:
    examples = [Example(f"q{i}", f"What is {i} + 5?", ("",)) for i in range(12)]
    scorer = Scorer(detector, chat_model, batch_size=5)
    said = scorer.generate(examples)
    assert [s.answer.id for s in said] == [e.id for e in examples]
    again = scorer.score(examples, [s.answer for s in said])
    for one, other in zip(said, again, strict=True):
        assert (one.score.judged_by, one.score.exact_answer, one.score.why) == (
            other.judged_by,
            other.exact_answer,
            other.why,
        )
        assert one.score.score == pytest.approx(other.score, abs=1e-4)
        assert one.score.p_correct == pytest.approx(other.p_correct, abs=1e-5)
    assert {s.score.judged_by for s in said} >= {"fallback"}, "a random model names few numbers"


def test_questions_are_answered_and_scored_from_python(
    detector: Detector, chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [f"What is {i} + 5?" for i in range(6)]
    examples = [Example(str(i + 1), text, ("",)) for i, text in enumerate(questions)]
    expected = Scorer(detector, chat_model, batch_size=4).generate(examples, temperature=0.7, seed=3)
    # A second pass would be one of these.
    monkeypatch.setattr(scoring, "hidden_states", lambda *_, **__: pytest.fail("a second pass"))
    orders: list[list[str | Example]] = [[*questions], [*examples], [*questions[:3], *examples[3:]]]
    for asked in orders:
        said = generate_with_score(detector, chat_model, asked, temperature=0.7, seed=3, batch_size=4)
        assert said == expected
    assert [one.answer.id for one in expected] == ["1", "2", "3", "4", "5", "6"]
    assert all(one.score.judged_by in ("main", "fallback") for one in expected)
    with pytest.raises(DataError, match=r"1 ids belong to several questions: 1\nhint: give each question its own id"):
        generate_with_score(detector, chat_model, ["What?", examples[0]])
    with pytest.raises(DetectorError, match=r"no threshold for 0\.3"):
        generate_with_score(detector, chat_model, questions, false_alarms=0.3)
    assert generate_with_score(detector, chat_model, []) == []


def test_every_token_has_what_the_probe_makes_of_its_state(detector: Detector, chat_model: Model) -> None:
    (said,) = Scorer(detector, chat_model).generate([Example("x", "What is 3 + 5?", ("",))])
    answer = said.answer
    assert len(said.tokens) == len(answer.produced_ids) - 1, "all but the last"
    assert "".join(answer.token_texts) == answer.text
    indices = np.arange(answer.n_prompt, len(answer.token_ids) - 1, dtype=np.int32)[None]
    states = hidden_states(chat_model, [answer], indices, layers=[2])[0, 0]
    expected = detector.main.probabilities(detector.main.scores(states[:, None]))
    assert said.tokens == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("positions", "ended", "cut"),
    [
        (("exact_answer_first", "-2"), False, False),
        (("exact_answer_last", "last_q"), False, False),
        (("exact_answer_after_last",), True, False),
        (("exact_answer_first", "first_answer"), False, False),
        (("exact_answer_first", "-1"), True, True),
    ],
)
def test_a_pass_over_last_tokens_is_made_where_cells_often_lie_on_them(
    detector: Detector, chat_model: Model, positions: tuple[str, ...], ended: bool, cut: bool
) -> None:
    main = replace(detector.main, cells=tuple(Cell(2, position) for position in positions))
    scorer = Scorer(replace(detector, main=main, fallback=None), chat_model)
    watch = scorer._watch(1)
    assert (watch.needs_last(True), watch.needs_last(False)) == (ended, cut)


@pytest.mark.parametrize(("position", "passes"), [("first_answer", [4]), ("-1", [])])
def test_an_answer_that_was_cut_off_at_a_cell_is_read_again(
    detector: Detector, chat_model: Model, monkeypatch: pytest.MonkeyPatch, position: str, passes: list[int]
) -> None:
    main = replace(detector.main, cells=(Cell(2, position),))
    provenance = detector.required_provenance()
    provenance = replace(provenance, task=replace(provenance.task, max_new_tokens=1))
    scorer = Scorer(Detector(main, None, provenance), chat_model)
    asked: list[int] = []

    def counted(model: Any, answers: Any, *rest: Any, **more: Any) -> Any:
        asked.append(len(answers))
        return hidden_states(model, answers, *rest, **more)

    monkeypatch.setattr(scoring, "hidden_states", counted)
    examples = [Example(f"q{i}", f"What is {i} + 5?", ("",)) for i in range(4)]
    said = scorer.generate(examples)
    assert asked == passes, "all together, and only where their tokens were not read"
    assert [len(one.answer.produced_ids) for one in said] == [1] * 4
    assert all(one.tokens == () for one in said)
    again = scorer.score(examples, [one.answer for one in said])
    assert [one.score.score for one in said] == pytest.approx([one.score for one in again], abs=1e-4)
    assert len({round(one.score or 0, 2) for one in again}) == 4


def test_a_question_is_answered_with_its_probability(detector_folder: Path, chat_folder: Path) -> None:
    call = probemap("ask", detector_folder, "What is 3 + 5?", "--model", chat_folder)
    assert re.search(r"right with probability 0\.\d\d|nothing can be said", call.stdout)
    assert "judged by layer" in call.stderr or "exact answer:" in call.stderr


def test_a_model_of_the_hub_is_loaded_as_it_was_when_the_detector_was_made(
    detector: Detector, chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def loads(name: str, *, revision: str | None, **_: Any) -> Model:
        asked.append(revision)
        return replace(chat_model, revision=revision or chat_model.revision)

    monkeypatch.setattr("probemap.detectors.loading.load_model", loads)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6"}) + "\n")
    commit = "0123456789abcdef0123456789abcdef01234567"
    for number, revision in enumerate((commit, chat_model.revision)):
        replace(detector, provenance=replace(detector.required_provenance(), revision=revision)).save(
            tmp_path / str(number)
        )
        probemap("score", tmp_path / str(number), tmp_path / "rows.jsonl")
    assert asked == [commit, None]
