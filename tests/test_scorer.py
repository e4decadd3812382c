"""`Scorer`: the score of an answer does not depend on its origin, and models of another detector are rejected."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from typer.testing import CliRunner, Result

from probemap.activations.capture import capture
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.detectors import spans as spans_module
from probemap.detectors.compatibility import check_compatible
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Cell
from probemap.detectors.loading import load_scorer
from probemap.detectors.provenance import Provenance
from probemap.detectors.scorer import Scorer, chunks
from probemap.detectors.scores import Score
from probemap.grading.llm import LLMJudge
from probemap.grading.locate import locate, locate_answer
from probemap.models import transformers_engine
from probemap.models.forward import hidden_states
from probemap.models.model import Model, load_model
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer, DataError, DetectorError, Example, ProbemapError, RunError, Span, Task, TextAnswer
from probemap.runs.run import Run
from probemap.runs.steps.export import export


def probemap(*words: Any) -> Result:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert call.exit_code == 0, call.output
    return call


def error_of(*words: Any) -> str:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(call.exception, ProbemapError), call.output
    return str(call.exception)


def rows_of(mapped: Path, count: int) -> list[dict[str, Any]]:
    run = Run.open(mapped)
    task = run.task
    pairs = zip(task.examples, run.answers, strict=True)
    return [{"id": e.id, "question": e.question, "answer": a.text} for e, a in pairs][:count]


def test_export_records_the_provenance(detector: Detector, chat_model: Model) -> None:
    provenance = detector.required_provenance()
    assert (provenance.model, provenance.revision, provenance.template) == (
        "tiny-chat",
        chat_model.revision,
        chat_model.template_sha256,
    )
    assert (provenance.prompt_format, provenance.locator, provenance.site) == ("chat", "rules", "resid")
    assert provenance.task.examples == ()
    assert [(c.layer, c.position) for c in detector.primary.cells] == [(2, "exact_answer_last")]
    assert detector.fallback is not None
    assert not detector.fallback.cells[0].position.startswith("exact")
    check_compatible(detector, TransformersEngine(chat_model))


def test_score_is_the_same_for_token_ids_texts_files_and_runs(
    mapped: Path, detector: Detector, detector_folder: Path, chat_model: Model, tmp_path: Path
) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)
    scorer = Scorer(detector, chat_model)
    scores = scorer.score(task.examples, answers)
    assert [s.id for s in scores] == [e.id for e in task.examples]
    assert {s.judged_by for s in scores} == {"primary"}
    assert all(s.exact_answer == str(i + 5 + i % 2) for i, s in enumerate(scores))
    expected = [s.p_correct for s in scores]
    single = [scorer.score([e], [a])[0].p_correct for e, a in zip(task.examples[:8], answers[:8], strict=True)]
    assert single == pytest.approx(expected[:8], abs=1e-5)
    texts = [(replace(e, answers=("",)), TextAnswer(e.id, a.text)) for e, a in zip(task.examples, answers, strict=True)]
    retokenised = scorer.retokenise(texts)
    assert [a.token_ids for a in retokenised] == [a.token_ids for a in answers]
    assert [s.p_correct for s in scorer.score(task.examples, retokenised)] == pytest.approx(expected, abs=1e-5)
    copy = Detector.load(shutil.copytree(detector_folder, tmp_path / "copy"))
    assert [s.p_correct for s in Scorer(copy, chat_model).score(task.examples, answers)] == expected

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(mapped, 80)))
    for source in (mapped, tmp_path / "rows.jsonl"):
        lines = [
            json.loads(line)
            for line in probemap("score", detector_folder, source, "--batch-size", 7).stdout.splitlines()
        ]
        assert [line["p_correct"] for line in lines] == pytest.approx(expected, abs=1e-5)
        assert [line["flagged"] for line in lines] == [s.flagged for s in scores]


def test_score_equals_the_score_of_the_stored_states(mapped: Path, detector: Detector, chat_model: Model) -> None:
    store = ActivationStore.open(mapped / "activations")
    scores = detector.primary.scores(store.read(2, "exact_answer_last")[:, None])
    run = Run.open(mapped)
    task = run.task
    computed = Scorer(detector, chat_model).score(task.examples, list(run.answers))
    assert [s.score for s in computed] == pytest.approx(scores.tolist(), abs=1e-4)
    threshold = detector.primary.threshold(0.05).score
    assert [s.flagged for s in computed] == [score < threshold for score in scores]


def test_score_uses_the_fallback_without_an_exact_answer(detector: Detector, chat_model: Model) -> None:
    scorer = Scorer(detector, chat_model)
    example = Example("x", "What is 1 + 5?", ("",))
    (score,) = scorer.score([example], scorer.retokenise([(example, TextAnswer("x", "I do not know."))]))
    assert detector.fallback is not None
    cell = detector.fallback.cells[0]
    assert (score.judged_by, score.exact_answer) == ("fallback", None)
    assert score.why == f"no exact answer found; scored by the fallback, layer {cell.layer} at {cell.position}"
    assert score.p_correct is not None
    (unscored,) = Scorer(replace(detector, fallback=None), chat_model).score(
        [example], scorer.retokenise([(example, TextAnswer("x", "?"))])
    )
    assert (unscored.judged_by, unscored.p_correct, unscored.flagged) == ("none", None, None)


def test_scorer_rejects_another_model(detector: Detector, chat_model: Model, tmp_path: Path) -> None:
    second_model = load_model(save_tiny_model(tmp_path / "other", byte_level_tokenizer(), seed=1))
    with pytest.raises(
        DetectorError, match=r"fitted for tiny-chat with weights .*…, but the model is other with weights .*\nhint:"
    ):
        Scorer(detector, second_model)
    changed = replace(detector, provenance=replace(detector.required_provenance(), template="0" * 64))
    with pytest.raises(
        DetectorError, match="with chat template 0000000000000000…, but the model is tiny-chat with chat"
    ):
        Scorer(changed, chat_model)
    unknown = replace(detector, provenance=replace(detector.required_provenance(), revision="", template=""))
    deep = replace(unknown, primary=replace(unknown.primary, cells=(replace(unknown.primary.cells[0], layer=9),)))
    with pytest.raises(DetectorError, match="reads layer 9, but tiny-chat has only 4 layers"):
        Scorer(deep, chat_model)
    wide = replace(unknown, primary=replace(unknown.primary, weight=unknown.primary.weight[:, :5]))
    with pytest.raises(DetectorError, match="reads states of width 5, but the states of tiny-chat have width 32"):
        Scorer(wide, chat_model)
    with pytest.raises(
        DetectorError, match=r"no threshold for a false-alarm rate of 0\.3\nhint: use one of 0\.05, 0\.2"
    ):
        Scorer(detector, chat_model, 0.3)


def test_scorer_rejects_unknown_locators_and_positions(detector: Detector, chat_model: Model) -> None:
    unknown = replace(detector, provenance=replace(detector.required_provenance(), locator="oracle"))
    with pytest.raises(
        DetectorError, match=r"with the locator 'oracle'.*does not provide\nhint: the available locators are rules"
    ):
        Scorer(unknown, chat_model)
    middle = replace(detector.primary, cells=(Cell(2, "middle"),))
    with pytest.raises(DataError, match=r"there is no position 'middle'; the positions are "):
        Scorer(replace(detector, primary=middle), chat_model)


def test_locate_spans_with_equal_ids_uses_the_extract_of_each_answer(
    detector: Detector, chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(task: Task) -> Iterator[list[tuple[str, str]]]:
        yield [(example.id, example.context.split()[0]) for example in task.examples]

    monkeypatch.setattr(spans_module, "model_judge", lambda model: LLMJudge("first word", respond))
    provenance = replace(detector.required_provenance(), locator="model", task=Task("t", (), "open"))
    scorer = Scorer(replace(detector, provenance=provenance), chat_model)
    rows = [(Example("1", "Which city?", ("",)), TextAnswer("1", f"{city} it is.")) for city in ("Rome", "Paris")]
    assert [score.exact_answer for score in scorer.score_rows(rows)] == ["Rome", "Paris"]


# --- fitted in code ---


def fitted_in_code(mapped: Path, provenance: Provenance | None) -> tuple[Detector, np.ndarray]:
    """Fit a detector to the states and verdicts of a run; return it with its states, of shape (n, n_cells, d)."""
    store = ActivationStore.open(mapped / "activations")
    correct = [judgement.verdict.correct for judgement in Run.open(mapped).read_judgements()]
    cells = [(2, "exact_answer_last")]
    detector = fit_detector(store, correct, cells=cells, held_out=0.6, provenance=provenance)
    return detector, np.stack([store.read(cell.layer, cell.position) for cell in detector.cells], axis=1)


def test_fit_detector_with_provenance_scores_text_like_the_stored_states(mapped: Path, chat_model: Model) -> None:
    run = Run.open(mapped)
    rows = rows_of(mapped, 80)
    for provenance in (Provenance.of(chat_model, run.task, locator="numbers"), run.provenance):
        detector, states = fitted_in_code(mapped, provenance)
        stored = detector.p_correct(states)
        scorer = Scorer(detector, chat_model)
        pairs = [(Example(row["id"], row["question"], ("",)), TextAnswer(row["id"], row["answer"])) for row in rows]
        scores = scorer.score([example for example, _ in pairs], scorer.retokenise(pairs))
        assert [s.p_correct for s in scores] == pytest.approx(stored.tolist(), abs=1e-5)
        assert [s.score for s in scores] == pytest.approx(detector.primary.scores(states[:, :1]).tolist(), abs=1e-5)
        for row, p in zip(rows[:3], stored, strict=False):
            assert scorer.score_text(row["question"], row["answer"]).p_correct == pytest.approx(p, abs=1e-5)
    without_template = Provenance.of(chat_model, run.task, prompt_format="none")
    detector, states = fitted_in_code(mapped, without_template)
    score = Scorer(detector, chat_model).score_text(rows[0]["question"], rows[0]["answer"]).score
    assert score != pytest.approx(detector.primary.scores(states[:1, :1])[0], abs=1e-2), "the chat template matters"


def test_fit_detector_without_provenance_scores_states_but_no_text(
    mapped: Path, chat_model: Model, tmp_path: Path
) -> None:
    detector, states = fitted_in_code(mapped, None)
    assert np.isfinite(detector.p_correct(states)).all()
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert loaded.provenance is None
    assert np.array_equal(loaded.p_correct(states), detector.p_correct(states))
    for unknown in (detector, loaded):
        with pytest.raises(
            DetectorError, match=r"has no provenance(.|\n)*\nhint: fit it with provenance=Provenance\.of"
        ):
            Scorer(unknown, chat_model)
        with pytest.raises(DetectorError, match="has no provenance"):
            load_scorer(unknown, model=chat_model)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows_of(mapped, 1)[0]))
    assert "has no provenance" in error_of("score", tmp_path / "d", path, "--model", "anything")


def test_provenance_of_a_model_equals_that_of_the_run(mapped: Path, chat_model: Model, base_model: Model) -> None:
    run = Run.open(mapped)
    exported = run.provenance
    provenance = Provenance.of(chat_model, run.task, name=exported.name)
    assert replace(provenance, versions=exported.versions) == exported
    assert provenance.task.examples == ()
    open_task = Task("t", (), "open")
    assert Provenance.of(base_model, open_task, locator="none").prompt_format == "qa"
    assert Provenance.of(chat_model, open_task, locator="model", prompt_format="none").prompt_format == "none"
    assert Provenance.of(base_model, Task("t", (), "names"), site="heads").site == "heads"
    assert Provenance.of(base_model, open_task).locator == "rules"
    with pytest.raises(DetectorError, match="tiny-base has no chat template"):
        Provenance.of(base_model, open_task, locator="none", prompt_format="chat")


def test_provenance_of_activations_and_user_defined_locator_and_position(mapped: Path, chat_model: Model) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)
    correct = [judgement.verdict.correct for judgement in run.read_judgements()]

    def locator(question: str, text: str) -> tuple[int, int] | None:
        return (4, 10) if text.startswith("The answer") else None

    def second_token(answer: Answer, span: Span | None) -> int | None:
        return answer.n_prompt + 1

    spans = locate(task, answers, locator=locator)
    positions: dict[str, Any] = {"word": "exact_answer_last", "second": second_token}
    activations = capture(chat_model, answers, spans, positions=positions, site="attn_out")
    provenance = Provenance.of(activations, task, locator=locator)
    assert (provenance.site, provenance.locator, provenance.model) == ("attn_out", "custom", "tiny-chat")
    cells = [(2, "word"), (1, "second")]
    detector = fit_detector(activations, correct, cells=cells, held_out=0.6, provenance=provenance)
    stored = detector.score_states(np.stack([activations.read(*cell) for cell in cells], axis=1))
    pairs = zip(task.examples, answers, strict=True)
    rows = [(Example(e.id, e.question, ("",)), TextAnswer(e.id, a.text)) for e, a in pairs]
    scorer = Scorer(detector, chat_model, locator=locator, positions=positions)
    scores = list(scorer.score_rows(rows))
    assert {score.exact_answer for score in scores} == {"answer"}
    assert [score.score for score in scores] == pytest.approx(stored.score.tolist(), abs=1e-5)
    with pytest.raises(
        DetectorError, match=r"fitted with a user-defined locator, but no locator was passed\nhint: pass a"
    ):
        Scorer(detector, chat_model, positions=positions)
    with pytest.raises(DataError, match="there is no position 'word'"):
        Scorer(detector, chat_model, locator=locator)
    named = replace(detector, provenance=replace(provenance, locator="numbers"))
    with pytest.raises(DetectorError, match=r"a locator was passed, but the detector .* with the locator 'numbers'"):
        Scorer(named, chat_model, locator=locator, positions=positions)
    with pytest.raises(DetectorError, match="the site is 'resid', but the activations were captured at 'attn_out'"):
        Provenance.of(activations, task, site="resid")
    for changed, message in (
        (
            replace(provenance, site="resid"),
            "hook point of the activations is 'attn_out', but that of the provenance is 'resid'",
        ),
        (
            replace(provenance, revision="0" * 64),
            "the model revision of the activations is .*, but that of the provenance is",
        ),
    ):
        with pytest.raises(DetectorError, match=message):
            fit_detector(activations, correct, held_out=0.6, provenance=changed)


# --- a single answer ---


def test_score_text_equals_the_score_in_a_batch(detector: Detector, chat_model: Model, mapped: Path) -> None:
    rows = rows_of(mapped, 6)
    scorer = Scorer(detector, chat_model)
    pairs = [(Example(row["id"], row["question"], ("",)), TextAnswer(row["id"], row["answer"])) for row in rows]
    many = scorer.score([example for example, _ in pairs], scorer.retokenise(pairs))
    for row, expected in zip(rows, many, strict=True):
        score = scorer.score_text(row["question"], row["answer"])
        assert isinstance(score, Score)
        assert score.p_correct == pytest.approx(expected.p_correct, abs=1e-5)
        assert (score.id, score.judged_by, score.exact_answer, score.flagged) == (
            "1",
            "primary",
            expected.exact_answer,
            expected.flagged,
        )
    example = Example("q7", rows[0]["question"], ("",))
    assert scorer.score_text(example, rows[0]["answer"]).id == "q7"
    cut_off = scorer.score_text(example, "The answer is 5", stopped=False)
    assert cut_off.why.startswith("cut off inside the exact answer; scored by the fallback, layer")
    prompt = scorer.prompt(example).text
    prompted = scorer.score_text(example, rows[0]["answer"], prompt=prompt)
    assert prompted.p_correct == pytest.approx(many[0].p_correct, abs=1e-5)
    with pytest.raises(DetectorError, match=r"no threshold for a false-alarm rate of 0\.3"):
        Scorer(detector, chat_model, 0.3)


def test_score_flags_below_the_lowest_threshold_by_default(detector: Detector, chat_model: Model, mapped: Path) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)
    flagged = {
        rate: [s.flagged for s in Scorer(detector, chat_model, rate).score(task.examples, answers)]
        for rate in (None, 0.05, 0.2)
    }
    assert flagged[None] == flagged[0.05]
    assert flagged[None].count(True) < flagged[0.2].count(True)
    coarse = replace(detector.primary, thresholds=detector.primary.thresholds[1:])
    single = Scorer(replace(detector, primary=coarse, fallback=None), chat_model)
    assert [s.flagged for s in single.score(task.examples, answers)] == flagged[0.2]
    none = replace(detector, primary=replace(detector.primary, thresholds=()), fallback=None)
    assert {s.flagged for s in Scorer(none, chat_model).score(task.examples, answers)} == {None}
    with pytest.raises(DetectorError, match="the detector has no threshold"):
        Scorer(none, chat_model, 0.05)


def test_score_uses_the_spans_that_are_passed(
    detector: Detector, chat_model: Model, mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(mapped)
    task = run.task
    answers = list(run.answers)[:4]
    examples = task.examples[:4]
    scorer = Scorer(detector, chat_model)
    spans = [locate_answer(task, e, a) for e, a in zip(examples, answers, strict=True)]
    expected = scorer.score(examples, answers)

    def fail(*_: Any) -> Any:
        raise AssertionError("located again")

    monkeypatch.setattr(spans_module, "locate_answer", fail)
    assert scorer.score(examples, answers, spans) == expected
    first, (span, _) = answers[0], spans[0]
    assert span is not None
    later = replace(span, start=span.stop, stop=span.stop + 1, text=" next")
    moved, without_span = scorer.score([examples[0]] * 2, [first] * 2, [(later, ""), (None, "a manual label")])
    assert moved.exact_answer == " next"
    assert moved.score != expected[0].score
    assert without_span.judged_by == "fallback"
    assert without_span.why.startswith("a manual label; scored by the fallback, layer")
    with pytest.raises(DataError, match=r"3 spans for 4 answers\nhint: pass one pair"):
        scorer.score(examples, answers, spans[:3])
    for start, stop in ((0, 1), (span.start, 9999), (span.start, span.start)):
        with pytest.raises(
            DataError, match=rf"is {start} to {stop}, but the tokens of the answer are {first.answer_start} to"
        ):
            scorer.score(examples[:1], [first], [(replace(span, start=start, stop=stop), "")])


def test_scorer_rejects_another_quantisation(
    mapped: Path, chat_model: Model, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    log = run.run_json()
    log["steps"]["answer"]["options"]["quantize"] = "4bit"
    run.write("run.json", json.dumps(log))
    detector = export(run, tmp_path / "d", cells=[(2, "exact_answer_last")], held_out=0.6)
    assert (
        Detector.load(tmp_path / "d").required_provenance().quantize
        == detector.required_provenance().quantize
        == "4bit"
    )
    with pytest.raises(
        DetectorError, match=r"for tiny-chat with quantisation 4bit…, but the model is tiny-chat with quantisation none"
    ):
        Scorer(detector, chat_model)

    class FourBit:
        load_in_4bit = True

    monkeypatch.setattr(chat_model.network.config, "quantization_config", FourBit(), raising=False)
    check_compatible(detector, TransformersEngine(chat_model))
    loaded: list[Any] = []

    def load(name: str, *, quantize: str | None, **options: Any) -> Model:
        loaded.append(quantize)
        return chat_model

    monkeypatch.setattr("probemap.models.model.load_model", load)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6."}))
    probemap("score", tmp_path / "d", tmp_path / "rows.jsonl", "--model", chat_folder)
    assert loaded == ["4bit"], "loaded as when the detector was fitted"


def test_chunks_reads_rows_on_demand() -> None:
    n_read = 0

    def rows() -> Any:
        nonlocal n_read
        for k in range(1000):
            n_read += 1
            yield Example(str(k), "?", ("",)), TextAnswer(str(k), "!")

    row_chunks = chunks(rows(), 10)
    assert [answer.id for _, answer in next(row_chunks)] == [str(k) for k in range(10)]
    assert n_read == 10
    assert sum(map(len, row_chunks)) == 990


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "row 2: expected an object, got list"),
        ({"question": "q"}, r"row 2: 'answer' is missing (fields: question)"),
        ({"question": "q", "answer": 7}, "row 2: 'answer' must be a string, got int"),
        ({"question": "q", "answer": "a", "choices": "ab"}, "row 2: 'choices' must be a list of strings, got 'ab'"),
        (
            {"question": "q", "answer": "a", "stopped": "perhaps"},
            "row 2: 'stopped' must be true, false or null, got 'perhaps'",
        ),
    ],
)
def test_score_names_invalid_rows(
    row: Any, message: str, detector_folder: Path, chat_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6."}) + "\n" + json.dumps(row) + "\n")
    assert message in error_of("score", detector_folder, path, "--model", chat_folder)


def test_export_rejects_invalid_arguments(mapped: Path, detector_folder: Path, tmp_path: Path) -> None:
    assert "already contains a config.json" in error_of("export", mapped, "--out", detector_folder)
    few = error_of("export", mapped, "--out", tmp_path / "d")
    assert "incorrect answers are held out, but the evaluation requires at least 20 of each" in few
    assert not (tmp_path / "d").exists()
    for words, message in (
        (("--cell", "last"), "cannot parse the cell 'last'"),
        (("--cell", "9:-1", "--held-out", "0.6"), "the map has no cell (9, '-1')"),
        (("--false-alarms", "5"), "cannot parse the false-alarm rates '5'"),
    ):
        assert message in error_of("export", mapped, "--out", tmp_path / "d", *words)
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    log = run.run_json()
    log["steps"]["judge"]["options"]["locator"] = "paper"
    run.write("run.json", json.dumps(log))
    with pytest.raises(RunError, match="the position of the exact answer depends on the verdict"):
        export(run, tmp_path / "d", held_out=0.6)


def test_retokenise_requires_prompts_if_the_detector_was_fitted_to_supplied_prompts(
    detector: Detector, chat_model: Model
) -> None:
    scorer = Scorer(
        replace(detector, provenance=replace(detector.required_provenance(), prompt_format="given")), chat_model
    )
    example = Example("x", "What is 1 + 5?", ("",))
    with pytest.raises(DataError, match="fitted to answers that were supplied with their prompts"):
        scorer.retokenise([(example, TextAnswer("x", "6."))])
    (answer,) = scorer.retokenise([(example, TextAnswer("x", " 6.", prompt="What is 1 + 5? It is"))])
    assert answer.prompt == "What is 1 + 5? It is"


def test_export_prints_the_evaluation(mapped: Path, tmp_path: Path) -> None:
    call = probemap("export", mapped, "--out", tmp_path / "d", "--cell", "3:-1", "--held-out", "0.6")
    evaluation = Detector.load(tmp_path / "d").primary.evaluation
    assert (
        f"layer 3 at -1: AUC {evaluation.auc:.3f} [{evaluation.auc_low:.3f}, {evaluation.auc_high:.3f}] on 48 held-out"
        in call.stderr
    )
    assert "  false-alarm rate of at most 5%: " in call.stderr
    assert "  at most 10% incorrect among the accepted answers, with 90% confidence: " in call.stderr
    assert call.stdout.strip() == str(tmp_path / "d")


# --- during generation ---


def test_generate_returns_the_scores_of_a_second_forward_pass(detector: Detector, chat_model: Model) -> None:
    examples = [Example(f"q{i}", f"What is {i} + 5?", ("",)) for i in range(12)]
    scorer = Scorer(detector, chat_model, batch_size=5)
    results = scorer.generate(examples)
    assert [result.answer.id for result in results] == [e.id for e in examples]
    second_pass = scorer.score(examples, [result.answer for result in results])
    for result, expected in zip(results, second_pass, strict=True):
        score = result.score
        assert (score.judged_by, score.exact_answer) == (expected.judged_by, expected.exact_answer)
        assert score.why == expected.why
        assert score.score == pytest.approx(expected.score, abs=1e-4)
        assert score.p_correct == pytest.approx(expected.p_correct, abs=1e-5)
    assert {result.score.judged_by for result in results} >= {"fallback"}, "a random model names few numbers"


def test_generate_accepts_texts_and_examples(
    detector: Detector, chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [f"What is {i} + 5?" for i in range(6)]
    examples = [Example(str(i + 1), text, ("",)) for i, text in enumerate(questions)]
    expected = Scorer(detector, chat_model, batch_size=4).generate(examples, temperature=0.7, seed=3)
    monkeypatch.setattr(transformers_engine, "hidden_states", lambda *_, **__: pytest.fail("a second forward pass"))
    mixtures: list[list[str | Example]] = [[*questions], [*examples], [*questions[:3], *examples[3:]]]
    for mixture in mixtures:
        assert Scorer(detector, chat_model, batch_size=4).generate(mixture, temperature=0.7, seed=3) == expected
    assert [result.answer.id for result in expected] == ["1", "2", "3", "4", "5", "6"]
    assert all(result.score.judged_by in ("primary", "fallback") for result in expected)
    scorer = Scorer(detector, chat_model)
    with pytest.raises(DataError, match=r"two questions have the id '1'\nhint: give each question a unique id"):
        scorer.generate(["What?", examples[0]])
    with pytest.raises(DetectorError, match=r"no threshold for a false-alarm rate of 0\.3"):
        load_scorer(detector, model=chat_model, false_alarms=0.3)
    assert scorer.generate([]) == []


def test_token_p_correct_is_the_probability_of_each_token_state(detector: Detector, chat_model: Model) -> None:
    (result,) = Scorer(detector, chat_model).generate([Example("x", "What is 3 + 5?", ("",))])
    answer = result.answer
    assert len(result.token_p_correct) == len(answer.produced_ids) - 1, "all but the last"
    assert "".join(answer.token_texts) == answer.text
    indices = np.arange(answer.n_prompt, len(answer.token_ids) - 1, dtype=np.int32)[None]
    states = hidden_states(chat_model, [answer], indices, layers=[2])[0, 0]
    expected = detector.primary.probabilities(detector.primary.scores(states[:, None]))
    assert result.token_p_correct == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("positions", "ended", "cut_off"),
    [
        (("exact_answer_first", "-2"), False, False),
        (("exact_answer_last", "last_q"), False, False),
        (("exact_answer_after_last",), True, False),
        (("exact_answer_first", "first_answer"), False, False),
        (("exact_answer_first", "-1"), True, True),
    ],
)
def test_recorder_processes_last_tokens_only_if_cells_are_often_on_them(
    detector: Detector, chat_model: Model, positions: tuple[str, ...], ended: bool, cut_off: bool
) -> None:
    primary = replace(detector.primary, cells=tuple(Cell(2, position) for position in positions))
    scorer = Scorer(replace(detector, primary=primary, fallback=None), chat_model)
    needs_last = scorer.recording.needs_last
    assert (needs_last(True), needs_last(False)) == (ended, cut_off)


@pytest.mark.parametrize(("position", "expected_batch_sizes"), [("first_answer", [4]), ("-1", [])])
def test_generate_computes_answers_again_that_were_cut_off_at_a_cell(
    detector: Detector,
    chat_model: Model,
    monkeypatch: pytest.MonkeyPatch,
    position: str,
    expected_batch_sizes: list[int],
) -> None:
    primary = replace(detector.primary, cells=(Cell(2, position),))
    provenance = detector.required_provenance()
    provenance = replace(provenance, task=replace(provenance.task, max_new_tokens=1))
    scorer = Scorer(Detector(primary, None, provenance), chat_model)
    batch_sizes: list[int] = []

    def counted(model: Any, answers: Any, *args: Any, **options: Any) -> Any:
        batch_sizes.append(len(answers))
        return hidden_states(model, answers, *args, **options)

    monkeypatch.setattr(transformers_engine, "hidden_states", counted)
    examples = [Example(f"q{i}", f"What is {i} + 5?", ("",)) for i in range(4)]
    results = scorer.generate(examples)
    assert batch_sizes == expected_batch_sizes, "in one batch, and only if their tokens were not recorded"
    assert [len(result.answer.produced_ids) for result in results] == [1] * 4
    assert all(result.token_p_correct == () for result in results)
    second_pass = scorer.score(examples, [result.answer for result in results])
    assert [result.score.score for result in results] == pytest.approx([s.score for s in second_pass], abs=1e-4)
    assert len({round(score.score or 0, 2) for score in second_pass}) == 4


def test_ask_prints_the_probability(detector_folder: Path, chat_folder: Path) -> None:
    call = probemap("ask", detector_folder, "What is 3 + 5?", "--model", chat_folder)
    assert re.search(r"probability of being correct: 0\.\d\d|not scored", call.stdout)
    assert "scored by the fallback, layer" in call.stderr or "exact answer:" in call.stderr


def test_load_scorer_loads_the_commit_of_a_model_from_the_hub(
    detector: Detector, chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions: list[str | None] = []

    def load(name: str, *, revision: str | None, **_: Any) -> Model:
        revisions.append(revision)
        return replace(chat_model, revision=revision or chat_model.revision)

    monkeypatch.setattr("probemap.models.model.load_model", load)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "6"}) + "\n")
    commit = "0123456789abcdef0123456789abcdef01234567"
    for number, revision in enumerate((commit, chat_model.revision)):
        replace(detector, provenance=replace(detector.required_provenance(), revision=revision)).save(
            tmp_path / str(number)
        )
        probemap("score", tmp_path / str(number), tmp_path / "rows.jsonl")
    assert revisions == [commit, None]
