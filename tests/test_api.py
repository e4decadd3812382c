"""The Python API from a notebook: the steps as functions on values, with public names only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import probemap
from probemap import Answer, Example, MapDisplay, Model, ProbeMap, Verdict
from probemap.reading.sentences import complete_sentences


def drawn_array(display: MapDisplay) -> npt.NDArray[np.float64]:
    """Return the values of the first panel, layer 0 first."""
    axes = display.axes[0]
    (artist,) = axes.images or axes.collections
    return np.asarray(artist.get_array(), dtype=float).reshape(-1, len(axes.get_xticklabels()))


def test_api_from_a_real_model_to_a_report(mapped: Path, tmp_path: Path) -> None:
    model = probemap.load_model("smollm2-135m")
    task = probemap.load_task("cities", n=60)
    answers = probemap.ask(model, task)
    verdicts = probemap.grade(task, answers)
    spans = probemap.locate(task, answers)
    states = probemap.capture(
        model, answers, spans, positions=["last_q", "exact_answer_last"], site="resid", batch_size=16
    )
    probe_map = probemap.fit_map(states, verdicts)
    display = probe_map.plot()
    report = probe_map.report(tmp_path / "report.html")
    assert [answer.id for answer in answers] == [example.id for example in task.examples]
    assert {verdict.correct for verdict in verdicts} >= {True, False}
    assert states.values.shape == (60, 30, 2, 576)
    assert list(np.isnan(states.values[:, 0, 1, 0])) == [span is None for span in spans]
    assert probe_map.auc.shape == (30, 2)
    assert probe_map.data.attrs["model"] == model.label
    np.testing.assert_array_equal(drawn_array(display), probe_map.auc.values)
    assert display._repr_png_()[:4] == b"\x89PNG"
    assert report.read_text(encoding="utf-8").lower().startswith("<!doctype html>")

    run = probemap.Run.open(mapped)
    assert run.map.plot().axes[0].get_xlabel() == "Token"
    assert run.answers[0].id == "q0"
    assert [verdict.correct for verdict in run.verdicts[:2]] == [True, False]


@pytest.fixture
def task(tmp_path: Path) -> probemap.Task:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(60)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(probemap.load_task(tmp_path / "sums.jsonl"), max_new_tokens=12)


@pytest.fixture
def answers(chat_model: Model, task: probemap.Task) -> list[Answer]:
    return probemap.ask(chat_model, task, temperature=1.0)


def test_user_defined_grader_locator_position_site_and_probe(
    chat_model: Model, task: probemap.Task, answers: list[Answer]
) -> None:
    from sklearn.linear_model import RidgeClassifier

    def is_long(example: Example, text: str) -> Verdict:
        return Verdict(len(text) > 8, f"{len(text)} characters")

    def first_half(question: str, text: str) -> tuple[int, int] | None:
        return (0, len(text) // 2) if len(text) > 1 else None

    verdicts = probemap.grade(task, answers, grader=is_long)
    gradable = [complete_sentences(a.final.text, a.stopped) for a in answers]
    expected = [None if text is None else len(text) > 8 for text in gradable]
    assert {True, None} <= set(expected)
    assert [verdict.correct for verdict in verdicts] == expected, "None: cut off in the first sentence"
    spans = probemap.locate(task, answers, locator=first_half)
    assert all(
        span.text == answer.text[: len(answer.text) // 2] for span, answer in zip(spans, answers, strict=True) if span
    )

    def normed_input(block: Any, d: int) -> probemap.HookPoint:
        return probemap.HookPoint(block.input_layernorm, takes_input=False, d=d)

    third = probemap.Position("the third token of the answer", lambda answer, span: answer.answer_start + 2)
    states = probemap.capture(
        chat_model,
        answers,
        spans,
        positions={"third_answer": third},
        site=probemap.Site("norm", "the normed input of the block", normed_input),
    )
    assert states.positions == ("third_answer",)
    expected = [len(answer.token_ids) <= answer.answer_start + 2 for answer in answers]
    assert list(np.isnan(states.values[:, 0, 0, 0])) == expected
    labels = [len(answer.text) % 2 == 0 for answer in answers]
    probe_map = probemap.fit_map(states, labels, probe=RidgeClassifier(), folds=2)
    assert probe_map.positions == ["third_answer"]
    assert "RidgeClassifier" in probe_map.data.attrs["probe"]


def test_maps_are_compared_as_a_row_and_as_a_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(120) < 0.5
    maps: list[ProbeMap] = []
    for signal in (0.0, 2.0):
        states = rng.normal(size=(120, 3, 2, 8))
        states[:, 1, 1, 0] += signal * correct
        maps.append(probemap.fit_map(states, correct, positions=["last_q", "exact_answer_last"]))
    row = probemap.plot_maps(maps)
    row.save(tmp_path / "row.png")
    difference = probemap.plot_difference(maps[1], maps[0])
    difference.save(tmp_path / "difference.svg")
    assert (tmp_path / "row.png").read_bytes()[:4] == b"\x89PNG"
    np.testing.assert_allclose(drawn_array(difference), (maps[1].auc - maps[0].auc).values, atol=1e-12)


def test_a_detector_from_values_scores_new_answers(
    chat_model: Model, task: probemap.Task, answers: list[Answer], tmp_path: Path
) -> None:
    correct = np.array([len(answer.text) % 2 == 0 for answer in answers])
    states = probemap.capture(chat_model, answers, positions=["last_q", "-1"])
    provenance = probemap.Provenance.of(chat_model, task, locator="none")
    detector = probemap.fit_detector(states, correct, cells=[(2, "-1")], held_out=None, provenance=provenance)
    scores = probemap.Scorer(detector, chat_model).score(list(task.examples), answers)
    stored = detector.p_correct(states.values[:, 2, 1][:, None])
    np.testing.assert_allclose(np.array([score.p_correct for score in scores], float), stored, atol=1e-5)
