"""Text for the terminal: columns do not touch, and colours follow the probabilities."""

import numpy as np
from rich.style import Style

from probemap import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.views.terminal import map_text
from probemap.views.tokens import scored_answer


def test_scored_answer_colours_each_token_but_the_last() -> None:
    text = scored_answer(("It", " is", " Austria", ""), (0.0, 0.5, 1.0), 0.75, True)
    assert text.plain == "It is Austria\n\nprobability of being correct: 0.75, flagged"
    spans = [(span.start, span.end, span.style.bgcolor.name) for span in text.spans if isinstance(span.style, Style)]  # type: ignore[union-attr]
    assert [(start, end) for start, end, _ in spans] == [(0, 2), (2, 5), (5, 13)]
    brightness = [sum(bytes.fromhex(colour[1:])) for *_, colour in spans]
    assert brightness == sorted(brightness, reverse=True), "the higher the probability, the darker"


def test_scored_answer_without_a_score() -> None:
    text = scored_answer(("Aus", "tria"), (0.5,), None, False)
    assert text.plain == "Austria\n\nnot scored: the answer has no token at the detector's positions"
    assert [(span.start, span.end) for span in text.spans] == [(0, 3)]


def test_map_text_separates_large_counts() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(60) < 0.5
    states = rng.normal(size=(60, 1, 3, 2)).astype(np.float32)
    probe_map = fit_map(states, list(correct), positions=["-3", "-2", "-1"])
    large = ProbeMap(probe_map.data.assign(n=probe_map.data["n"] * 0 + [1100, 98, 12345]))
    last = map_text(large).plain.splitlines()[-1]
    assert last.split() == ["n", "1100", "98", "12345"]
