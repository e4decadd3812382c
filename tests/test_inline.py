"""States taken while the model answers are those of a second pass."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import SUPPORTED, tiny
from typer.testing import CliRunner

from probemap.activations import layout, reader
from probemap.activations.forward import hidden_states
from probemap.activations.layout import States
from probemap.activations.recorder import HookRecorder
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.logger import Logger
from probemap.models.generate import GenerationRequest, Recorder, generate_answers, generate_batch
from probemap.models.loading import Endpoint, Loader
from probemap.models.model import Model
from probemap.models.prompts import Prompt
from probemap.records import Answer, ModelError, RunError
from probemap.runs.integrity import loader_of
from probemap.runs.options import Answering, Capturing, Judging
from probemap.runs.pipeline import answer
from probemap.runs.run import Run
from probemap.runs.steps.capture import capture as capture_step
from probemap.runs.steps.judge import judge


def prompts(model: Model, n: int = 12) -> list[tuple[str, Prompt]]:
    """Of many lengths, random tokens."""
    draw = np.random.default_rng(0)
    size = len(model.tokenizer)
    rows = [tuple(int(t) for t in draw.integers(5, size, int(draw.integers(2, 30)))) for _ in range(n)]
    return [(f"q{i}", Prompt("", ids, ((0, 0),) * len(ids))) for i, ids in enumerate(rows)]


@pytest.mark.parametrize("family", SUPPORTED)
def test_every_token_s_state_is_that_of_a_second_pass(family: str) -> None:
    model = tiny(family)
    seen: dict[str, tuple[Answer, States]] = {}

    def keep(number: int, answers: list[Answer], states: list[States]) -> None:
        seen.update({a.id: (a, s) for a, s in zip(answers, states, strict=True)})

    options: dict[str, Any] = {"frame": "qa", "max_new_tokens": 9, "batch_size": 4, "temperature": 1.5, "seed": 2}
    watching = Recorder(lambda rows: HookRecorder(model, "resid", None, rows), keep)
    watched = [a for b in generate_answers(model, prompts(model), **options, watching=watching) for a in b]
    alone = [a for b in generate_answers(model, prompts(model), **options) for a in b]
    assert [a.token_ids for a in watched] == [a.token_ids for a in alone], "to look on changes nothing"
    assert np.allclose(
        np.concatenate([a.logprobs for a in watched]), np.concatenate([a.logprobs for a in alone]), atol=1e-5
    )
    assert len({a.stopped for a in watched}) == 2, "some ended, some were cut off"
    for said, states in seen.values():
        tokens = range(said.n_prompt - 1, len(said.token_ids))
        again = hidden_states(model, [said], np.array([tokens], np.int32))[0]
        np.testing.assert_allclose(states[: len(tokens)].swapaxes(0, 1), again, atol=2e-5)


@pytest.mark.parametrize("ended", ["by its end", "by a line break", ""])
@pytest.mark.parametrize("needed", [True, False])
def test_the_last_token_is_read_only_if_it_is_needed(needed: bool, ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    wanted = [GenerationRequest(id_, prompt, max_new_tokens=5) for id_, prompt in prompts(model)[:1]]
    monkeypatch.setattr(Model, "newline_ids", lambda self: frozenset())
    (alone,), _ = generate_batch(model, wanted, frame="qa")
    end = alone.produced_ids[-1]
    assert end not in alone.produced_ids[:-1]
    if ended:
        kind = "end_ids" if ended == "by its end" else "newline_ids"
        monkeypatch.setattr(Model, kind, lambda self: frozenset({end}))
    asked: list[bool] = []

    def needs_last(ended: bool) -> bool:
        asked.append(ended)
        return needed

    watch = HookRecorder(model, "resid", None, 1, needs_last)
    (said,), (states,) = generate_batch(model, wanted, frame="qa", watch=watch)
    assert (said.token_ids, said.stopped) == (alone.token_ids, bool(ended))
    assert asked == [bool(ended)]
    assert len(states) == 5 + needed, "one over the prompt, and one for each of five tokens, but perhaps the last"


ROWS = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(24)]
FEW = Capturing("last_q,first_answer,-2,-1", layers="0,2..3")
OPTIONS = Answering(max_new_tokens=6, batch_size=5, temperature=1.0)


def ask(folder: Path, model: Path, **options: Any) -> Run:
    folder.mkdir()
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run = answer(folder / "q.jsonl", Loader(str(model)), folder / "run", Answering(**{**vars(OPTIONS), **options}))
    judge(run, Judging("numbers"))
    return run


def states_of(run: Run) -> States:
    store = ActivationStore.open(run.path / "activations")
    return np.stack([store.read_layer(layer) for layer in store.layout.layer_numbers], axis=1)


@pytest.fixture
def second_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each batch of a second pass held."""
    asked: list[int] = []
    real = hidden_states

    def counted(model: Any, answers: Any, *rest: Any, **options: Any) -> States:
        asked.append(len(answers))
        return real(model, answers, *rest, **options)

    monkeypatch.setattr(reader, "hidden_states", counted)
    monkeypatch.setattr(layout, "SHARD_BYTES", 3 * 4 * 32 * 4 * 7)  # seven answers to a shard
    return asked


@pytest.fixture
def asked_once(chat_folder: Path, tmp_path: Path) -> Run:
    return ask(tmp_path / "one", chat_folder, during=FEW)


def test_one_pass_fills_the_store_of_two(
    asked_once: Run, chat_folder: Path, tmp_path: Path, second_passes: list[int]
) -> None:
    capture_step(asked_once, FEW)
    assert second_passes == []
    assert not asked_once.during.exists(), "it is in the store"
    two = ask(tmp_path / "two", chat_folder)
    assert not two.during.exists()
    capture_step(two, FEW)
    assert sum(second_passes) >= 24
    ids = [[a.token_ids for a in run.answers()] for run in (asked_once, two)]
    assert ids[0] == ids[1]
    one, other = states_of(asked_once), states_of(two)
    assert one.shape == (24, 3, 4, 32)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
    distance = np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)
    assert np.nanmax(distance) < 1e-5


@pytest.mark.parametrize(
    "otherwise",
    [Capturing("last_q,-3", layers="0,2..3"), Capturing(FEW.positions), Capturing(FEW.positions, site="mlp_out")],
)
def test_what_was_not_taken_is_captured(asked_once: Run, otherwise: Capturing, second_passes: list[int]) -> None:
    capture_step(asked_once, otherwise)
    assert sum(second_passes) >= 24
    assert not np.isnan(states_of(asked_once)[:, :, 0]).any()


def test_what_cannot_be_read_is_captured(asked_once: Run, second_passes: list[int]) -> None:
    files = sorted(asked_once.during.iterdir())
    assert len(files) == 5
    files[0].write_bytes(b"no tensors")
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-7])
    capture_step(asked_once, FEW)
    assert sum(second_passes) == 10
    assert not np.isnan(states_of(asked_once)[:, :, 0]).any()


def test_an_edited_answer_is_captured(asked_once: Run, second_passes: list[int]) -> None:
    """What was taken belongs to tokens, not to names."""
    lines = (asked_once.path / "answers.jsonl").read_text().splitlines()
    row = json.loads(lines[3])
    row["token_ids"][2] += 1
    lines[3] = json.dumps(row)
    (asked_once.path / "answers.jsonl").write_text("\n".join(lines) + "\n")
    judge(asked_once, Judging("numbers"), redo=True)
    capture_step(asked_once, FEW)
    assert second_passes == [1]


def test_what_another_dtype_gave_is_not_taken(asked_once: Run, second_passes: list[int]) -> None:
    loader = replace(loader_of(asked_once), dtype="bfloat16")
    capture_step(asked_once, FEW, loader=loader)
    assert sum(second_passes) >= 24


def test_asking_again_sets_aside_what_was_taken(asked_once: Run, chat_folder: Path, second_passes: list[int]) -> None:
    data = asked_once.path.parent / "q.jsonl"
    answer(data, Loader(str(chat_folder)), asked_once.path, OPTIONS, redo=True)
    assert not asked_once.during.exists()
    assert (asked_once.path / "earlier" / "001-answer" / "during").is_dir()


def test_an_open_question_is_captured_afterwards(chat_folder: Path, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": "Who?", "answers": ["Ann"]} for i in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[str] = []
    options = Answering(max_new_tokens=3, during=FEW)
    run = answer(tmp_path / "q.jsonl", Loader(str(chat_folder)), tmp_path / "run", options, logger=Logger(told.append))
    assert told == ["where the exact answer is, a model is asked later: the states are captured in a second pass"]
    assert not run.during.exists()


def test_states_that_nobody_computes_here_are_not_promised(chat_folder: Path, tmp_path: Path) -> None:
    options = Answering(endpoint=Endpoint("http://x/v1"), during=FEW)
    with pytest.raises(RunError, match="the model here does not answer: there are no states to take"):
        answer("cities", Loader(str(chat_folder)), tmp_path / "run", options)
    wrong = Answering(n=4, during=Capturing(layers="0..9"))
    with pytest.raises(ModelError, match=r"layers out of range: '0\.\.9'\nhint: this model has layers 0 to 3"):
        answer("cities", Loader(str(chat_folder)), tmp_path / "run", wrong)


def test_the_command_line_makes_a_map_in_one_pass(chat_folder: Path, tmp_path: Path, second_passes: list[int]) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = ["answer", str(folder / "q.jsonl"), "--model", str(chat_folder), "--out", str(folder / "run")]
    assert CliRunner().invoke(app, command).exit_code == 0
    shutil.rmtree(folder / "run")
    command = ["run", *command[1:], "--max-new-tokens", "6", "--one-pass", "--no-baselines"]
    made = CliRunner().invoke(app, command)
    assert "a map needs right and wrong answers" in str(made.exception), "the random model is never right"
    assert second_passes == []
    assert ActivationStore.open(folder / "run" / "activations").missing_shards() == []
