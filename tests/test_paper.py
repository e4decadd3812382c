"""The research code's protocol equals a plain scikit-learn loop over the same split."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from probemap.maps.paper import LABEL, fit_paper_map

NAMES = ("last_q", "-1")


def test_fit_paper_map_equals_a_plain_loop() -> None:
    draw = np.random.default_rng(0)
    n = 260
    correct: list[bool | None] = [bool(v) for v in draw.random(n) < 0.4]
    correct[7] = correct[30] = None
    located = draw.random(n) < 0.8
    y = np.array([bool(v) for v in correct])
    # unscaled, one feature a thousand times larger
    states = (draw.normal(size=(n, 3, 2, 40)) * np.r_[1000.0, np.ones(39)] + 500 + 0.6 * y[:, None, None, None]).astype(
        np.float32
    )
    probe_map = fit_paper_map(states, correct, located.tolist(), positions=NAMES, seed=3, attrs={"task": "t"})
    decided = np.array([i for i, v in enumerate(correct) if v is not None])
    train, test = train_test_split(decided, test_size=0.2, random_state=3)
    train, test = train[located[train]], test[located[test]]
    for layer in range(3):
        for column, name in enumerate(NAMES):
            x = states[:, layer, column]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                probe = LogisticRegression(random_state=3).fit(x[train], y[train])
            expected = roc_auc_score(~y[test], probe.predict_proba(x[test])[:, 0])
            assert float(probe_map.auc.sel(layer=layer, position=name)) == pytest.approx(expected, abs=1e-6)
    assert probe_map.data.attrs["protocol"] == LABEL
    assert probe_map.data["n"].values.tolist() == [len(test)] * 2
    assert probe_map.nested_best() is None
