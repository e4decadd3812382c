"""What the terminal shows can be read."""

import numpy as np
from rich.style import Style

from probemap import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.views.terminal import map_text, scored


def test_each_token_but_the_last_has_its_probe_s_colour() -> None:
    text = scored(("It", " is", " Austria", ""), (0.0, 0.5, 1.0), 0.75, True)
    assert text.plain == "It is Austria\n\nright with probability 0.75, flagged"
    ends = [(span.start, span.end, span.style.bgcolor.name) for span in text.spans if isinstance(span.style, Style)]  # type: ignore[union-attr]
    assert [(start, end) for start, end, _ in ends] == [(0, 2), (2, 5), (5, 13)]
    light = [sum(bytes.fromhex(colour[1:])) for *_, colour in ends]
    assert light == sorted(light, reverse=True), "the darker, the more it is trusted"
    cut = scored(("Aus", "tria"), (0.5,), None, False)
    assert cut.plain == "Austria\n\nno token at the detector's positions: nothing can be said"
    assert [(span.start, span.end) for span in cut.spans] == [(0, 3)]


def test_counts_of_many_answers_stand_apart() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(60) < 0.5
    made = fit_map(draw.normal(size=(60, 1, 3, 2)).astype(np.float32), list(correct), positions=["-3", "-2", "-1"])
    many = ProbeMap(made.data.assign(n=made.data["n"] * 0 + [1100, 98, 12345]))
    last = map_text(many).plain.splitlines()[-1]
    assert last.split() == ["n", "1100", "98", "12345"]
