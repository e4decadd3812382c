"""Observations agree with the planted signal, and noise yields none beyond the error rate."""

import re

import numpy as np
import pytest
from synthetic import from_scores

from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.positions import DEFAULT_POSITIONS
from probemap.probing.baselines import Baseline
from probemap.views.observations import position_names
from probemap.views.words import Description, describe

LAYERS = 12
EXACT = [DEFAULT_POSITIONS.index(p) for p in ("exact_answer_first", "exact_answer_last")]
AFTER = [DEFAULT_POSITIONS.index("exact_answer_after_last")]
TRAILING = list(range(7, 15))
ALL = list(range(15))


def planted(
    signal: np.ndarray, n: int = 800, seed: int = 0, rows: np.ndarray | None = None, folds: int = 5
) -> ProbeMap:
    """Return a map in which correct answers score `signal` standard deviations, (n_layers, 15), above incorrect ones.

    Scores of neighbouring cells are correlated, as in real maps.
    """
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.4
    sizes = ((n, 1, 1), (n, 1, 15), (n, len(signal), 15))
    noise = sum(weight * rng.normal(size=size) for weight, size in zip((0.7, 0.5, 0.5), sizes, strict=True))
    scores = noise / np.sqrt(0.99) + signal * correct[:, None, None]
    if rows is not None:
        scores[~rows[:, None, :].repeat(len(signal), 1)] = np.nan
    return from_scores(scores, correct, names=DEFAULT_POSITIONS, folds=folds)


def at(columns: list[int], effect: np.ndarray | float, layers: slice = slice(None)) -> np.ndarray:
    """Return an effect size per layer at consecutive columns, and 0 at all others."""
    signal = np.zeros((LAYERS, 15))
    per_layer = np.broadcast_to(np.asarray(effect, float), LAYERS)
    signal[layers, columns[0] : columns[-1] + 1] = per_layer[layers, None]
    return signal


def by_topic(description: Description) -> dict[str, str]:
    texts: dict[str, str] = {}
    for observation in description.observations:
        texts[observation.about] = texts.get(observation.about, "") + observation.text
    return texts


def grow() -> np.ndarray:
    return np.linspace(0, 1.6, LAYERS)


STRUCTURES: dict[str, tuple[np.ndarray, dict[str, str]]] = {
    # name: signal, and a pattern per topic
    "noise": (at(ALL, 0), {"nothing": "None of 180 cells is better than chance"}),
    "everywhere the same": (
        at(ALL, 1.0),
        {"chance": "Every position has such cells", "onset": "first appears in layer 0 at"},
    ),
    "exact answer": (
        at(EXACT, 1.2),
        {
            "chance": "at exact_answer_first and exact_answer_last; none at last_q",
            "onset": "first appears in layer 0 at exact_answer_first and exact_answer_last.",
            "positions": "at the exact answer's tokens than at the end of the prompt.*"
            "at the exact answer's tokens than at the trailing tokens",
        },
    ),
    "end of the prompt": (
        at([0], 1.2),
        {"chance": "at last_q; none at", "positions": "at the end of the prompt than at the exact answer's tokens"},
    ),
    "after the exact answer": (
        at(AFTER, 1.2),
        {"positions": "at the token after the exact answer than at the token before the exact answer"},
    ),
    "trailing": (
        at(TRAILING, 1.2),
        {"chance": "at -8 to -1; none at", "positions": "at the trailing tokens than at the exact answer's tokens"},
    ),
    "grows": (at(ALL, grow()), {"layers": "rises over the layers: .* layers 8 to 11 than in layers 0 to 3"}),
    "fades": (at(ALL, grow()[::-1]), {"layers": "falls over the layers"}),
    "middle": (
        at(ALL, 1.6 * np.sin(np.linspace(0, np.pi, LAYERS))),
        {"layers": "highest in the middle, layers 4 to 7"},
    ),
    "U": (at(ALL, 1.6 * (1 - np.sin(np.linspace(0, np.pi, LAYERS)))), {"layers": "U-shaped, lowest in layers 4 to 7"}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_describe_reports_the_planted_signal_and_nothing_else(name: str) -> None:
    """One draw each: one in twenty draws may report more (see the rates below)."""
    signal, expected = STRUCTURES[name]
    texts = by_topic(describe(planted(signal, seed=1)))
    always = {"chance", "onset", "peak"} if name != "noise" else set()
    assert set(texts) == set(expected) | always
    for topic, pattern in expected.items():
        assert re.search(pattern, texts[topic]), texts[topic]


def test_describe_onset_is_the_first_layer_with_signal() -> None:
    signal = at(EXACT, 1.5, slice(5, None))
    texts = by_topic(describe(planted(signal)))
    match = re.search(r"first appears in layer (\d+) at ([\w, ]+)\.", texts["onset"])
    assert match, texts["onset"]
    assert int(match[1]) == 5
    assert match[2] == "exact_answer_first and exact_answer_last"
    assert "rises over the layers" in texts["layers"]


def test_describe_noise_keeps_the_error_rate() -> None:
    signal = at(ALL, 0)[::2]
    false_claims = sum("nothing" not in by_topic(describe(planted(signal, 150, seed))) for seed in range(200))
    assert false_claims <= 10


def test_describe_comparisons_keep_the_error_rate() -> None:
    """In 100 maps with the same signal in all positions and layers, few differences may be reported."""
    false_claims = 0
    for seed in range(100):
        texts = by_topic(describe(planted(at(ALL, 0.8)[::2], 300, seed, folds=1)))
        false_claims += bool({"positions", "layers"} & set(texts))
    assert false_claims <= 10


def test_describe_signal_that_levels_off() -> None:
    signal = at(ALL, np.minimum(np.linspace(0, 3.2, LAYERS), 1.2))
    texts = by_topic(describe(planted(signal, seed=1)))
    assert re.match(
        "The AUC rises over the layers up to layers 4 to 7: .* The difference .* is not significant", texts["layers"]
    )
    texts = by_topic(describe(planted(signal[::-1], seed=1)))
    assert re.match("The AUC falls over the layers after layers 4 to 7", texts["layers"])


def test_describe_compares_positions_on_answers_that_have_both() -> None:
    """The signal is the same at all positions, but only in answers with an exact answer: no position is better."""
    rows = np.ones((800, 15), bool)
    rows[np.random.default_rng(77).random(800) < 0.5, 3:7] = False
    probe_map = planted(at(ALL, 0), seed=2, rows=rows)
    has_exact, correct = rows[:, 4], probe_map.data["correct"].values.astype(bool)
    scores = probe_map.data["scores"].values.copy()
    scores[0, has_exact & correct] += 1.5
    changed = from_scores(scores[0], correct, names=DEFAULT_POSITIONS, folds=5)
    assert changed.compare_columns(["exact_answer_first"], ["-1"]).low > 0, (
        "on all answers of each position they differ"
    )
    assert "positions" not in by_topic(describe(changed))


def test_describe_names_the_protocol_first() -> None:
    probe_map = planted(at(EXACT, 1.2))
    probe_map.data.attrs["protocol"] = "paper protocol: for comparison"
    assert describe(probe_map).observations[0].text == "Paper protocol: for comparison."


def test_describe_names_columns_with_few_answers() -> None:
    rows = np.ones((800, 15), bool)
    rows[60:, 7] = False
    rows[5:, 8] = False
    probe_map = planted(at(EXACT, 1.2), rows=rows)
    values = probe_map.auc.values.copy()
    values[:, 8] = np.nan
    observations = describe(ProbeMap(probe_map.data.assign(auc=(("layer", "position"), values)))).observations
    n_correct = int(probe_map.data["correct"].values[:60].sum())
    assert [o.text for o in observations if o.about == "few"] == [
        "Positions with fewer than 50 correct or incorrect answers: "
        f"-8 ({n_correct} correct, {60 - n_correct} incorrect).",
        "Positions with too few answers for an estimate: -7.",
    ]


def test_describe_compares_with_the_best_baseline() -> None:
    probe_map = planted(at(EXACT, 1.2))
    correct = probe_map.data["correct"].values
    ids = [str(i) for i in range(800)]
    rng = np.random.default_rng(5)
    bad, good = (Baseline(f"b{d}", "", rng.normal(size=800) + d * correct) for d in (0, 3))

    def sentence(*baselines: Baseline) -> str:
        return by_topic(describe(with_baselines(probe_map, list(baselines), ids)))["baselines"]

    better = r"2\d of 180 cells are better than the best baseline .*, at exact_answer_first and exact_answer_last\."
    assert re.match(better, sentence(bad))
    assert "No cell can be shown to be better than the best baseline" in sentence(good)
    assert "The best of all baselines is b3, AUC 0.9" in sentence(bad, good)


def test_describe_table_has_every_position_at_every_second_layer() -> None:
    probe_map = planted(at(EXACT, 1.2))
    table = describe(probe_map)
    assert table.layers == [0, 2, 4, 6, 8, 10]
    assert [(name, n) for name, n, _ in table.rows] == [(name, 800) for name in DEFAULT_POSITIONS]
    assert table.rows[4][2] == probe_map.auc.sel(position="exact_answer_first").values[::2].tolist()


def test_names_joins_runs_of_trailing_tokens() -> None:
    assert position_names(["last_q"]) == "last_q"
    assert position_names(["last_q", "-8", "-7", "-6", "-2", "-1"]) == "last_q, -8 to -6, -2 and -1"
