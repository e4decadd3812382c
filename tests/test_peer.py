"""States of two models on the same answers: planted premiums, an interval by hand, and what the step refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import execute
from scipy.stats import norm
from test_report import content
from typer.testing import CliRunner

from probemap import fit_map
from probemap.cli.main import app
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import Bools, Floats, Ints
from probemap.probing.nested import NestedScores
from probemap.records import DataError, MapError, ProbemapError, RunError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE, MAP
from probemap.runs.run import Run
from probemap.runs.steps.report import report
from probemap.studies.peer import AGREE, ALL, ANY_POSITION, COLUMNS, DISAGREE, SIMULTANEOUS, peer_table
from probemap.tables import Table, Value

POSITIONS = ["last_q", "exact_answer_last"]
N = 1200


def labels(n: int = N, seed: int = 0) -> Bools:
    return np.random.default_rng(seed).random(n) < 0.45


def fitted(shift: float, correct: Bools, noise: int, *, shared: Floats | None = None, **options: Any) -> ProbeMap:
    """Return a map of two layers and positions; layer 1 at the exact answer contains the labels, with unit noise.

    Parameters
    ----------
    shift : float
        Distance between the means of correct and incorrect answers.
    correct : ndarray of shape (n,), bool
    noise : int
        Random seed of the noise.
    shared : ndarray of shape (n,), optional
        Noise that two models have in common.
    **options
        Arguments of `fit_map`, and ``signal``, which replaces the labels in the states.
    """
    n = len(correct)
    states = np.random.default_rng(noise).normal(size=(n, 2, 2, 4)).astype(np.float32)
    if shared is not None:
        states[:, 1, 1, 0] = np.sqrt(0.5) * (states[:, 1, 1, 0] + shared)
    states[:, 1, 1, 0] += shift * options.pop("signal", correct)
    arguments: dict[str, Any] = {"positions": POSITIONS, "ids": [f"q{i}" for i in range(n)]} | options
    return fit_map(states, correct, **arguments)


def rows_of(table: Table) -> dict[tuple[Value, Value], dict[str, Any]]:
    return {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_peer_table_estimates_a_planted_premium() -> None:
    correct = labels()
    shared = np.random.default_rng(5).normal(size=N)
    own = fitted(1.6, correct, 1, shared=shared)
    peer = fitted(1.0, correct, 2, shared=shared)
    table = peer_table(own, peer, names=("A", "B"))
    rows = rows_of(table)
    assert set(rows) == {(ALL, ANY_POSITION), (ALL, "last_q"), (ALL, "exact_answer_last")}
    row = rows[ALL, ANY_POSITION]
    true_own, true_peer = (float(norm.cdf(shift / np.sqrt(2))) for shift in (1.6, 1.0))
    assert row["own low"] < true_own < row["own high"]
    assert row["peer low"] < true_peer < row["peer high"]
    assert row["premium low"] < true_own - true_peer < row["premium high"]
    assert row["premium"] == pytest.approx(row["own auc"] - row["peer auc"])
    assert (row["n"], row["correct"], row["adjusted p"]) == (N, correct.sum(), row["p"])
    unpaired = np.hypot(row["own high"] - row["own low"], row["peer high"] - row["peer low"])
    assert row["premium high"] - row["premium low"] < 0.9 * unpaired, "the noise that both share cancels"
    assert table.words[0] == (
        "On all questions, the states of A predict the correctness of the answers of A better than those of B: premium "
        f"{row['premium']:+.3f} [{row['premium low']:+.3f}, {row['premium high']:+.3f}] (p < 0.001, Holm-corrected)."
    )
    assert table.words[1].startswith("At the same position, the states of A predict better at exact_answer_last (+0.")
    assert table.words[2:] == (
        "In 1 of 4 cells, the states of A predict better than those of the other model in the same cell, by the 95 % "
        "band over all cells.",
    )
    swapped = peer_table(peer, own, names=("B", "A"))
    assert swapped.words[2:] == table.words[2:]
    assert swapped.words[0].startswith(
        "On all questions, the states of A predict the correctness of the answers of B better than those of B: premium"
    )


def test_peer_table_shows_no_difference_between_equal_models() -> None:
    correct = labels()
    own = fitted(1.2, correct, 3)
    row = rows_of(peer_table(own, own))[ALL, ANY_POSITION]
    assert (row["premium"], row["premium low"], row["premium high"], row["p"]) == (0, 0, 0, 1)
    table = peer_table(own, fitted(1.2, correct, 4, seed=9))  # other folds
    row = rows_of(table)[ALL, ANY_POSITION]
    assert row["premium low"] < 0 < row["premium high"]
    assert table.words[0].startswith(
        "On all questions, no difference is shown between the states of the model and those of the peer: premium "
    )
    assert table.words[1] == "At none of the positions is a difference shown, by the 95 % band over 2 positions."


def test_peer_table_finds_a_premium_where_only_one_model_is_correct() -> None:
    """Where the models agree, both states contain the label; elsewhere, those of the peer contain its own verdict."""
    correct, agree = labels(), np.random.default_rng(7).random(N) < 0.75
    peer_correct = np.where(agree, correct, ~correct)
    own, peer = fitted(1.5, correct, 1), fitted(1.5, correct, 2, signal=peer_correct)
    agreement: dict[str, bool | None] = {f"q{i}": bool(a) for i, a in enumerate(agree)}
    agreement["q0"] = None
    table = peer_table(own, peer, names=("A", "B"), agreement=agreement)
    rows = rows_of(table)
    assert rows[AGREE, ANY_POSITION]["premium low"] < 0 < rows[AGREE, ANY_POSITION]["premium high"]
    assert rows[DISAGREE, ANY_POSITION]["premium low"] > 0.4
    assert rows[DISAGREE, ANY_POSITION]["peer high"] < 0.5
    counted = agree[1:]
    assert rows[AGREE, ANY_POSITION]["n"] == counted.sum()
    assert rows[DISAGREE, ANY_POSITION]["correct"] == correct[1:][~counted].sum()
    assert [row["adjusted p"] for row in rows.values()][3:] == [None, None]
    assert table.words[2].startswith("Where only one of the models is correct, the states of A predict the correctness")
    assert table.words[3] == (
        f"The models are both correct or both incorrect on {counted.sum()} of {N - 1} questions "
        f"({100 * counted.mean():.0f} %).  1 more questions have no decided answer of the peer."
    )


def test_peer_table_needs_ten_answers_of_each_class() -> None:
    correct = labels(200)
    agreement = {f"q{i}": i not in range(30) for i in range(200)}
    correct[:30] = np.arange(30) < 9
    table = peer_table(fitted(1.0, correct, 1), fitted(1.0, correct, 2), agreement=agreement)
    row = rows_of(table)[DISAGREE, ANY_POSITION]
    assert (row["n"], row["correct"]) == (30, 9)
    assert {name for name, value in row.items() if value is None} == set(COLUMNS[4:13]) | {"p", "adjusted p"}
    assert table.words[2] == (
        "Where only one of the models is correct, there are too few answers for an estimate: 9 correct and 21 "
        "incorrect ones have a score in both maps, and 10 of each are required."
    )
    undecided = peer_table(fitted(1.0, correct, 1), fitted(1.0, correct, 2), agreement={})
    assert undecided.words[3] == (
        "The models cannot be compared question by question, because no question has two decided answers."
    )


def by_hand(nested: NestedScores, correct: Bools, fold: Ints) -> tuple[float, Floats]:
    """Return the AUC over all pairs of answers in the same fold, and the influences, from loops over pairs."""
    scores, n = nested.scores[0], len(correct)
    wins, weights = np.zeros(n), np.zeros(n)
    for i in np.flatnonzero(correct):
        for j in np.flatnonzero(~correct & (fold == fold[i])):
            win = 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
            wins[[i, j]] += win
            weights[[i, j]] += 1
    pairs = weights[correct].sum()
    auc = wins[correct].sum() / pairs
    influence = (wins - weights * auc) / pairs
    for side in (True, False):
        m = int((correct == side).sum())
        influence[correct == side] *= np.sqrt(m / (m - 1))
    return float(auc), influence * np.sqrt(nested.variance_factor)


def test_peer_table_interval_by_hand() -> None:
    correct, groups = labels(160), np.arange(160) // 2
    own = fitted(1.5, correct, 1, groups=groups)
    peer = fitted(0.8, correct, 2, groups=groups, seed=4)
    results = []
    for item in (own, peer):
        nested = item.nested_scores()
        assert nested is not None
        results.append(by_hand(nested, correct, item.data["fold"].values[0]))
    difference = results[0][1] - results[1][1]
    error = np.sqrt(((difference[::2] + difference[1::2]) ** 2).sum())  # two answers per group
    value = results[0][0] - results[1][0]
    row = rows_of(peer_table(own, peer))[ALL, ANY_POSITION]
    assert [row["own auc"], row["peer auc"]] == pytest.approx([auc for auc, _ in results])
    assert [row["premium"], row["premium low"], row["premium high"]] == pytest.approx(
        [value, value - 1.959964 * error, value + 1.959964 * error]
    )
    assert row["p"] == pytest.approx(2 * norm.sf(abs(value) / error))


def test_peer_table_uses_common_answers_in_any_order() -> None:
    correct = labels(400)
    own, peer = fitted(1.5, correct, 1), fitted(1.0, correct, 2)
    order = np.random.default_rng(0).permutation(400)
    shuffled = ProbeMap(peer.data.isel(answer=order))
    for row, expected in zip(peer_table(own, shuffled).rows, peer_table(own, peer).rows, strict=True):
        assert [v for v in row if isinstance(v, float)] == pytest.approx([v for v in expected if isinstance(v, float)])
    fewer = peer_table(own, ProbeMap(peer.data.isel(answer=order[:300])))
    assert rows_of(fewer)[ALL, ANY_POSITION]["n"] == 300


def test_peer_table_band_is_simultaneous_over_the_positions() -> None:
    correct = labels(400)
    table = peer_table(fitted(1.5, correct, 1), fitted(1.0, correct, 2))
    rows = rows_of(table)
    band, row = rows[ALL, "exact_answer_last"], rows[ALL, ANY_POSITION]
    assert band["interval"] == SIMULTANEOUS
    # The best cell is always at this position, so that the estimates are the same and only the intervals differ.
    assert band["premium"] == pytest.approx(row["premium"])
    quantile = (band["premium high"] - band["premium"]) / (row["premium high"] - row["premium"]) * 1.96
    assert 2.1 < quantile < 2.4, "the quantile for two nearly independent positions is 2.24"


def test_peer_table_compares_only_positions_of_models_with_other_layers() -> None:
    correct = labels(400)
    own, peer = fitted(2.5, correct, 1), fitted(0.0, correct, 2)
    assert sum("cells" in sentence for sentence in peer_table(own, peer).words) == 1
    shallow = ProbeMap(peer.data.isel(layer=[1]))
    table = peer_table(own, shallow)
    assert not any("cells" in sentence for sentence in table.words)
    assert rows_of(table)[ALL, "exact_answer_last"]["premium low"] > 0.2


def test_peer_table_reports_a_position_with_too_few_answers() -> None:
    correct = labels(300)
    states = np.random.default_rng(0).normal(size=(300, 2, 2, 4)).astype(np.float32)
    states[15:, :, 0] = np.nan
    maps = [fit_map(states + k, correct, positions=POSITIONS, ids=[f"q{i}" for i in range(300)]) for k in range(2)]
    table = peer_table(*maps)
    assert rows_of(table)[ALL, "last_q"]["premium"] is None
    assert len(table.words) == 2, "no band over a single position"
    assert table.words[1] == "In none of the 2 cells is a difference shown, by the 95 % band over all cells."


def test_peer_table_refuses_maps_that_cannot_be_compared() -> None:
    correct = labels(200)
    own = fitted(1.0, correct, 1)
    with pytest.raises(MapError, match="the map 'peer' was fitted without nested CV"):
        peer_table(own, fitted(1.0, correct, 1, folds=2))
    with pytest.raises(MapError, match="no answers in common"):
        peer_table(own, fitted(1.0, correct, 1, ids=[f"r{i}" for i in range(200)]))
    with pytest.raises(MapError, match="no positions in common"):
        peer_table(own, fitted(1.0, correct, 1, positions=["-1", "-2"]))
    flipped = correct.copy()
    flipped[[3, 7]] = ~flipped[[3, 7]]
    with pytest.raises(MapError, match=r"2 of 200 answers have different labels in the two maps, e\.g\. 'q[37]'"):
        peer_table(own, fitted(1.0, flipped, 1))


# Run directories


@pytest.fixture(scope="module")
def folders(mapped: Path, base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of three runs: A, the run of the chat model; PEER, its answers read by the base model; and OWN, the
    base model's own answers, of which three quarters have the verdict of A's."""
    folder = tmp_path_factory.mktemp("peer")
    shutil.copytree(mapped, folder / "A")
    shutil.copy(mapped.parent / "questions.jsonl", folder / "questions.jsonl")
    texts = [{"id": f"q{i}", "text": f"{i + 5 + (i + (i % 8 < 2)) % 2}"} for i in range(80)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    own = answered(folder, "OWN", base_folder, folder / "texts.jsonl")
    execute(JUDGE, own)
    peer = answered(folder, "PEER", base_folder, folder / "A")
    mapped_at(peer, "last_q,exact_answer_last,-1")
    return folder


def mapped_at(run: Run, positions: str) -> None:
    execute(JUDGE, run)
    execute(CAPTURE, run, positions=positions)
    execute(MAP, run)


def answered(folder: Path, name: str, model: Path, answers: Path) -> Run:
    return execute(ANSWER, folder / name, data=folder / "questions.jsonl", model=model, answers=str(answers))


@pytest.fixture
def copies(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders, tmp_path / "runs"))


def peer_command(folder: Path, *words: str) -> Any:
    paths = [word if word.startswith("--") else str(folder / word) for word in words]
    return CliRunner().invoke(app, ["peer", *paths])


def refused(folder: Path, *words: str) -> str:
    call = peer_command(folder, *words)
    assert isinstance(call.exception, ProbemapError), call.output
    return str(call.exception)


def rewritten(path: Path, change: Any) -> None:
    """Change the first JSON object of a file of JSON lines, or of run.json."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    row = json.loads(lines[0])
    change(row)
    path.write_text("".join(f"{line}\n" for line in [json.dumps(row), *lines[1:]]))


def test_answers_of_a_run_are_read_with_their_verdicts_and_exact_answers(folders: Path) -> None:
    own, peer = Run.open(folders / "A"), Run.open(folders / "PEER")
    assert [a.text for a in peer.answers] == [f" {a.text}" for a in own.answers]
    assert peer.verdicts == [replace(verdict, rule="", evidence=None) for verdict in own.verdicts]
    assert [s and s.text for s in peer.spans] == [s and s.text for s in own.spans]
    assert peer.answers[0].prompt != own.answers[0].prompt, "the peer has its own prompt format"
    assert peer.record(ANSWER).facts.frame == "qa"


def test_answers_of_a_run_must_be_answers_to_the_questions(folders: Path, base_folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (folders / "questions.jsonl").read_text().splitlines()]
    questions = tmp_path / "questions.jsonl"

    def read(*changed: Any) -> Run:
        questions.write_text("".join(json.dumps(row) + "\n" for row in changed))
        return execute(ANSWER, tmp_path / "RUN", data=questions, model=base_folder, answers=str(folders / "A"))

    with pytest.raises(
        DataError, match=r"A contains no answer to 1 of 81 questions: 'r'\nhint: pass the same questions"
    ):
        read(*rows, {"id": "r", "question": "Where?", "answers": ["Here"]})
    with pytest.raises(DataError, match=r"the question 'q0' is 'Where\?', but in .* it is 'What is 0 \+ 5\?'"):
        read(rows[0] | {"question": "Where?"}, *rows[1:])
    with pytest.raises(RunError, match="is not a run directory"):
        execute(ANSWER, tmp_path / "RUN", data=questions, model=base_folder, answers=str(tmp_path))
    assert len(read(*rows[:40]).answers) == 40


def test_peer_prints_and_writes_the_table(copies: Path) -> None:
    call = peer_command(copies, "A", "PEER", "--own", "OWN")
    assert call.exit_code == 0, call.output
    run = Run.open(copies / "A")
    table = run.read_table("peer")
    assert table.title == "States of tiny-chat and of tiny-base on the answers of tiny-chat"
    assert [row[0] for row in table.rows[:3]] == [ALL, AGREE, DISAGREE]
    assert [row[2] for row in table.rows[:3]] == [80, 60, 20]
    assert [row[1] for row in table.rows] == [ANY_POSITION] * 3 + ["last_q", "exact_answer_last", "-1"]
    assert "The models are both correct or both incorrect on 60 of 80 questions (75 %)." in table.words
    assert all(sentence in call.stdout for sentence in table.words)
    assert (copies / "A" / "peer.csv").read_text().startswith(",".join(COLUMNS))
    assert {path.name for path in copies.glob("*/peer.*")} == {"peer.json", "peer.csv", "peer.png", "peer.svg"}
    drawn = (copies / "A" / "peer.svg").read_text()
    assert "tiny-chat minus tiny-base" in drawn
    assert "difference of AUCs" in drawn
    (shown,) = content(report([run]).read_text())["runs"]
    assert [study["title"] for study in shown["studies"]] == [table.title]
    before = (copies / "A" / "peer.json").read_bytes()
    assert peer_command(copies, "A").exit_code == 0, "the recorded directories are used"
    assert peer_command(copies, "A", "PEER", "--own", "OWN", "--redo").exit_code == 0
    assert (copies / "A" / "earlier" / "001-peer" / "peer.svg").read_text() == drawn
    assert (copies / "A" / "peer.json").read_bytes() == before


def test_peer_without_own_answers_compares_all_questions(copies: Path) -> None:
    assert peer_command(copies, "A", "PEER").exit_code == 0
    assert {row[0] for row in Run.open(copies / "A").read_table("peer").rows} == {ALL}
    assert "was created with different options or inputs: own was null, now" in refused(
        copies, "A", "PEER", "--own", "OWN"
    )


def test_peer_refuses_runs_that_cannot_be_compared(copies: Path, base_folder: Path, chat_folder: Path) -> None:
    assert "the step peer needs a value for peer\nhint: give PEER, or peer=..." in refused(copies, "A")
    assert "one run directory is given twice" in refused(copies, "A", "A")
    assert "one run directory is given twice" in refused(copies, "A", "PEER", "--own", "PEER")
    assert "OWN holds no map" in refused(copies, "A", "OWN")
    mapped_at(Run.open(copies / "OWN"), "-1")
    message = refused(copies, "A", "OWN")
    assert "80 of 80 answers in" in message
    assert "the first one is the answer to 'q0'" in message
    assert f"--answers {copies / 'A'}`" in message
    answered(copies, "CHAT", chat_folder, copies / "texts.jsonl")
    execute(JUDGE, Run.open(copies / "CHAT"))
    message = refused(copies, "A", "PEER", "--own", "CHAT")
    assert "CHAT come from tiny-chat, but the states in" in message
    lines = (copies / "questions.jsonl").read_text().splitlines(keepends=True)
    (copies / "questions.jsonl").write_text("".join(lines[:70]))
    mapped_at(answered(copies, "FEWER", base_folder, copies / "A"), "-1")
    assert "10 of them, e.g. 'q70', are in only one of the runs" in refused(copies, "A", "FEWER")
    message = refused(copies, "A", "PEER", "--own", "FEWER")
    assert "the question 'q70' of" in message


def test_peer_refuses_other_verdicts_and_sites(copies: Path) -> None:
    peer = Run.open(copies / "PEER")
    rewritten(copies / "PEER" / "run.json", lambda log: log["steps"]["capture"]["options"].update(site="mlp_out"))
    assert "come from the site 'mlp_out', those of" in refused(copies, "A", "PEER")
    rewritten(copies / "PEER" / "run.json", lambda log: log["steps"]["capture"]["options"].update(site="resid"))
    rewritten(copies / "PEER" / "verdicts.jsonl", lambda row: row["verdict"].update(correct=None))
    execute(MAP, peer, redo=True)
    message = refused(copies, "A", "PEER")
    assert "1 of 80 answers have another verdict in" in message
    assert "the first one, 'q0', is undecided instead of correct" in message
    execute(MAP, peer, redo=True, folds=2)
    assert "was fitted without nested cross-validation" in refused(copies, "A", "PEER")
    rewritten(copies / "PEER" / "run.json", lambda log: log["steps"]["judge"]["options"].update(locator="paper"))
    assert "depends on the verdict (--locator paper)" in refused(copies, "A", "PEER")


def test_report_leaves_out_a_comparison_of_an_earlier_map(copies: Path) -> None:
    assert peer_command(copies, "A", "PEER").exit_code == 0
    run = Run.open(copies / "A")
    execute(MAP, run, redo=True, seed=3)
    (shown,) = content(report([run]).read_text())["runs"]
    assert shown["studies"] == []


def test_untrained_model_reads_the_answers_of_a_run(copies: Path, base_folder: Path) -> None:
    words = ["run", copies / "questions.jsonl", "--model", f"untrained-1:{base_folder}", "--out", copies / "UNTRAINED"]
    call = CliRunner().invoke(app, [str(word) for word in [*words, "--answers", copies / "A"]])
    assert call.exit_code == 0, call.output
    run = Run.open(copies / "UNTRAINED")
    assert run.verdicts == Run.open(copies / "PEER").verdicts
    assert run.record(ANSWER).options.model == f"untrained-1:{base_folder}"
    assert run.record(ANSWER).facts.model == "untrained-1:tiny-base"
    assert "untrained-1:tiny-base" in (run.path / "map.svg").read_text()
    message = refused(copies, "A", "UNTRAINED", "--own", "OWN")
    assert "OWN come from tiny-base, but the states in" in message, "trained, and therefore not the same model"
    assert peer_command(copies, "A", "UNTRAINED").exit_code == 0
    assert (
        Run.open(copies / "A").read_table("peer").title.startswith("States of tiny-chat and of untrained-1:tiny-base")
    )
