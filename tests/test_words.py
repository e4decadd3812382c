"""What is said of a map is true of it, and of noise nothing is said."""

import re

import numpy as np
import pytest
from test_values import from_scores

from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.positions import DEFAULT_POSITIONS
from probemap.probing.baselines import Baseline
from probemap.views.words import Description, _names, describe

LAYERS = 12
EXACT = [DEFAULT_POSITIONS.index(p) for p in ("exact_answer_first", "exact_answer_last")]
AFTER = [DEFAULT_POSITIONS.index("exact_answer_after_last")]
TRAILING = list(range(7, 15))
ALL = list(range(15))


def planted(signal: np.ndarray, n: int = 800, seed: int = 0, rows: np.ndarray | None = None) -> ProbeMap:
    """A map whose scores of right answers lie `signal` standard deviations, (LAYERS, 15), above those of wrong ones.

    As in real maps, what one cell gets wrong its neighbours get wrong too.
    """
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.4
    noise = (
        0.7 * draw.normal(size=(n, 1, 1)) + 0.5 * draw.normal(size=(n, 1, 15)) + 0.5 * draw.normal(size=(n, LAYERS, 15))
    )
    scores = noise / np.sqrt(0.99) + signal * correct[:, None, None]
    if rows is not None:
        scores[~rows[:, None, :].repeat(LAYERS, 1)] = np.nan
    return from_scores(scores, correct, names=DEFAULT_POSITIONS, folds=5)


def at(columns: list[int], strengths: np.ndarray | float, layers: slice = slice(None)) -> np.ndarray:
    made = np.zeros((LAYERS, 15))
    part = np.broadcast_to(np.asarray(strengths, float), LAYERS)
    made[layers, columns[0] : columns[-1] + 1] = part[layers, None]
    return made


def about(made: Description) -> dict[str, str]:
    texts: dict[str, str] = {}
    for observation in made.observations:
        texts[observation.about] = texts.get(observation.about, "") + observation.text
    return texts


def grow() -> np.ndarray:
    return np.linspace(0, 1.6, LAYERS)


STRUCTURES: dict[str, tuple[np.ndarray, dict[str, str]]] = {
    # name: signal, and what must be said of what
    "noise": (at(ALL, 0), {"nothing": "of 180 cells none is better than chance"}),
    "everywhere the same": (
        at(ALL, 1.0),
        {"chance": "every position has such cells", "onset": "first found in layer 0, at"},
    ),
    "exact answer": (
        at(EXACT, 1.2),
        {
            "chance": "at exact_answer_first and exact_answer_last; none at last_q",
            "onset": "first found in layer 0, at exact_answer_first and exact_answer_last.",
            "positions": "at the exact answer's tokens than at the end of the question.*"
            "at the exact answer's tokens than at the trailing tokens",
        },
    ),
    "end of the question": (
        at([0], 1.2),
        {"chance": "at last_q; none at", "positions": "at the end of the question than at the exact answer's tokens"},
    ),
    "after the exact answer": (
        at(AFTER, 1.2),
        {"positions": "at the token after the exact answer than at the token before the exact answer"},
    ),
    "trailing": (
        at(TRAILING, 1.2),
        {"chance": "at -8 to -1; none at", "positions": "at the trailing tokens than at the exact answer's tokens"},
    ),
    "grows": (at(ALL, grow()), {"layers": "grows along the layers: .* layers 8 to 11 than in layers 0 to 3"}),
    "fades": (at(ALL, grow()[::-1]), {"layers": "fades along the layers"}),
    "middle": (
        at(ALL, 1.6 * np.sin(np.linspace(0, np.pi, LAYERS))),
        {"layers": "strongest in the middle, layers 4 to 7"},
    ),
    "U": (at(ALL, 1.6 * (1 - np.sin(np.linspace(0, np.pi, LAYERS)))), {"layers": "U-shaped, weakest in layers 4 to 7"}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_what_is_planted_is_said_and_nothing_else(name: str) -> None:
    """For one draw each: of every twenty draws one may say more (see the rates below)."""
    signal, expected = STRUCTURES[name]
    said = about(describe(planted(signal, seed=1)))
    always = {"chance", "onset", "peak"} if name != "noise" else set()
    assert set(said) == set(expected) | always
    for kind, words in expected.items():
        assert re.search(words, said[kind]), said[kind]


def test_the_onset_is_never_before_the_truth() -> None:
    signal = at(EXACT, 1.5, slice(5, None))
    said = about(describe(planted(signal)))
    match = re.search(r"first found in layer (\d+), at ([\w, ]+)\.", said["onset"])
    assert match, said["onset"]
    assert int(match[1]) == 5
    assert match[2] == "exact_answer_first and exact_answer_last"
    assert "grows along the layers" in said["layers"]


def test_of_noise_next_to_nothing_is_claimed() -> None:
    claims = sum("nothing" not in about(describe(planted(at(ALL, 0), 150, seed))) for seed in range(200))
    assert claims <= 10


def test_a_group_is_said_to_know_more_only_where_it_does() -> None:
    """Of 100 maps in which all positions and layers know the same, few may be said to differ."""
    wrong = 0
    for seed in range(100):
        said = about(describe(planted(at(ALL, 0.8), 300, seed)))
        wrong += bool({"positions", "layers"} & set(said))
    assert wrong <= 10


def test_a_signal_that_levels_off_is_not_said_to_grow_on() -> None:
    signal = at(ALL, np.minimum(np.linspace(0, 3.2, LAYERS), 1.2))
    said = about(describe(planted(signal, seed=1)))
    assert re.match("The signal grows along the layers up to layers 4 to 7, .* no difference is sure", said["layers"])
    said = about(describe(planted(signal[::-1], seed=1)))
    assert re.match("The signal fades along the layers from layers 4 to 7 on", said["layers"])


def test_positions_are_compared_on_answers_that_have_both() -> None:
    """The same everywhere, but only in answers that have an exact answer: no position knows more."""
    rows = np.ones((800, 15), bool)
    rows[np.random.default_rng(77).random(800) < 0.5, 3:7] = False
    made = planted(at(ALL, 0), seed=2, rows=rows)
    there, correct = rows[:, 4], made.data["correct"].values.astype(bool)
    scores = made.data["scores"].values.copy()
    scores[0, there & correct] += 1.5
    again = from_scores(scores[0], correct, names=DEFAULT_POSITIONS, folds=5)
    assert again.compare_columns(["exact_answer_first"], ["-1"]).low > 0, "on their own answers they differ"
    assert "positions" not in about(describe(again))


def test_a_protocol_for_comparison_comes_first() -> None:
    made = planted(at(EXACT, 1.2))
    made.data.attrs["protocol"] = "paper protocol: for comparison"
    assert describe(made).observations[0].text == "Paper protocol: for comparison."


def test_columns_with_few_answers_are_named() -> None:
    rows = np.ones((800, 15), bool)
    rows[60:, 7] = False
    rows[5:, 8] = False
    made = planted(at(EXACT, 1.2), rows=rows)
    values = made.auc.values.copy()
    values[:, 8] = np.nan
    said = describe(ProbeMap(made.data.assign(auc=(("layer", "position"), values)))).observations
    right = int(made.data["correct"].values[:60].sum())
    assert [o.text for o in said if o.about == "few"] == [
        f"Fewer than 50 answers of one kind stand behind -8 ({right} right, {60 - right} wrong).",
        "Too few answers to say anything at -7.",
    ]


def test_whether_a_baseline_does_as_well() -> None:
    made = planted(at(EXACT, 1.2))
    correct = made.data["correct"].values
    ids = [str(i) for i in range(800)]
    draw = np.random.default_rng(5)
    bad, good = (Baseline(f"b{d}", "", draw.normal(size=800) + d * correct) for d in (0, 3))
    beaten = about(describe(with_baselines(made, [bad], ids)))["baselines"]
    assert re.match(r"2\d of 180 cells know more .*: at exact_answer_first and exact_answer_last\.", beaten)
    assert "No cell is sure to know more" in about(describe(with_baselines(made, [good], ids)))["baselines"]
    assert "the best baseline is b3, 0.9" in about(describe(with_baselines(made, [bad, good], ids)))["baselines"]


def test_the_table_has_every_position_at_every_second_layer() -> None:
    made = planted(at(EXACT, 1.2))
    table = describe(made)
    assert table.layers == [0, 2, 4, 6, 8, 10]
    assert [(name, n) for name, n, _ in table.rows] == [(name, 800) for name in DEFAULT_POSITIONS]
    assert table.rows[4][2] == made.auc.sel(position="exact_answer_first").values[::2].tolist()


def test_names_of_trailing_tokens_are_drawn_together() -> None:
    assert _names(["last_q"]) == "last_q"
    assert _names(["last_q", "-8", "-7", "-6", "-2", "-1"]) == "last_q, -8 to -6, -2 and -1"
