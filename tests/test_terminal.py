"""What the terminal shows can be read."""

import numpy as np

from probemap import fit_map
from probemap.pictures.terminal import map_text
from probemap.probes.map import ProbeMap


def test_counts_of_many_answers_stand_apart() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(60) < 0.5
    made = fit_map(draw.normal(size=(60, 1, 3, 2)).astype(np.float32), list(correct), positions=["-3", "-2", "-1"])
    many = ProbeMap(made.data.assign(n=made.data["n"] * 0 + [1100, 98, 12345]))
    last = map_text(many).plain.splitlines()[-1]
    assert last.split() == ["n", "1100", "98", "12345"]
