"""ProbeMap: files, comparisons, nested estimates and figures."""

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import NAMES, planted_states

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.records import MapError


def test_probe_map_save_and_load(tmp_path: Path) -> None:
    states, correct = planted_states()
    states[:, :, 0] = np.nan
    probe_map = fit_map(states, correct, positions=NAMES, attrs={"model": "m", "task": "t"}, permutations=3)
    probe_map.save(tmp_path / "map.nc")
    again = ProbeMap.load(tmp_path / "map.nc")
    xr.testing.assert_equal(again.data, probe_map.data)
    assert again.data.attrs == probe_map.data.attrs
    assert again.nested_best() == probe_map.nested_best()
    # without this package: xarray
    with xr.open_dataset(tmp_path / "map.nc") as content:
        assert dict(content.sizes) == {
            "layer": 3,
            "position": 3,
            "repeat": 1,
            "answer": 240,
            "outer_fold": 5,
            "permutation": 3,
        }
        assert float(content.auc.sel(layer=1, position="exact_answer_last")) == float(probe_map.auc.values[1, 1])
        assert np.isnan(content.auc.values[0, 0])
    probe_map.to_frame().to_csv(tmp_path / "map.csv", index=False)
    rows = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    assert list(rows[0]) == "layer position auc low high band_low band_high n n_right".split()
    assert rows[4]["position"] == "exact_answer_last"
    assert float(rows[4]["auc"]) == probe_map.best()[0].auc


@pytest.mark.parametrize("content", [b"", b"{}", b"CDF\x01" + b"\xff" * 200, b"CDF\x02\x00\x00\x00\x00" + b"\x00" * 64])
def test_probe_map_load_rejects_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.nc").write_bytes(content)
    with pytest.raises(MapError, match="is not a map"):
        ProbeMap.load(tmp_path / "map.nc")
    with pytest.raises(MapError, match=r"the map .* does not exist"):
        ProbeMap.load(tmp_path / "other.nc")
    xr.Dataset(attrs={"schema": 99}).to_netcdf(tmp_path / "map.nc", engine="scipy")
    with pytest.raises(MapError, match="has schema 99, expected 4"):
        ProbeMap.load(tmp_path / "map.nc")


def test_above_chance_contains_the_planted_cell_only() -> None:
    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES)
    data = probe_map.data
    assert ((data.band_low <= data.low) & (data.high <= data.band_high)).all()
    assert int(probe_map.above_chance.sum()) == 1
    assert bool(probe_map.above_chance.sel(layer=1, position="exact_answer_last"))
    assert probe_map.confidence_set().values.sum() == 1
    assert bool(probe_map.confidence_set().sel(layer=1, position="exact_answer_last"))


def test_nested_best_is_at_chance_on_noise() -> None:
    draw = np.random.default_rng(0)
    correct = np.arange(160) % 2 == 0
    noise = draw.normal(size=(160, 10, 10, 3)).astype(np.float32)
    probe_map = fit_map(noise, correct)
    nested = probe_map.nested_best()
    assert nested is not None
    assert probe_map.best()[0].auc > 0.6, "the luckiest of a hundred"
    assert nested.low < 0.5 < nested.high
    assert len(nested.selected) == 5
    assert not probe_map.above_chance.any()
    states, correct = planted_states()
    nested = fit_map(states, correct, positions=NAMES).nested_best()
    assert nested is not None
    assert set(nested.selected) == {(1, "exact_answer_last")}
    assert nested.auc == pytest.approx(fit_map(states, correct, positions=NAMES).best()[0].auc, abs=1e-6)
    assert fit_map(states, correct, positions=NAMES, nested=False).nested_best() is None


def test_compare_and_difference() -> None:
    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES)
    gap = probe_map.compare((1, "exact_answer_last"), (0, "last_q"))
    auc = probe_map.auc.values
    assert gap.value == pytest.approx(auc[1, 1] - auc[0, 0])
    assert gap.low > 0.2
    assert gap.p < 1e-6
    columns = probe_map.compare_columns(["exact_answer_last"], ["last_q", "-1"])
    assert columns.value == pytest.approx(auc[:, 1].mean() - auc[:, [0, 2]].mean())
    assert columns.low < columns.value < columns.high
    weaker = states.copy()
    weaker[:, 1, 1, 2] -= 6.0 * correct
    other = fit_map(weaker, correct, positions=NAMES)
    change = probe_map.difference(other)
    assert change["difference"].values[1, 1] == pytest.approx(auc[1, 1] - other.auc.values[1, 1])
    assert float(change["band_low"].values[1, 1]) > 0
    assert np.delete(change["difference"].values.ravel(), 4).max() == 0.0
    assert change["n"].values.tolist() == [240] * 3
    # half of the answers, other columns: what both have is compared
    half = fit_map(states[:120, :, 1:], correct[:120], positions=NAMES[1:], ids=[str(i) for i in range(120)])
    shared = probe_map.difference(half)
    assert shared.sizes == {"layer": 3, "position": 2}
    assert shared["n"].values.tolist() == [120, 120]
    with pytest.raises(MapError, match="have different labels"):
        probe_map.difference(fit_map(states, ~correct, positions=NAMES))
    with pytest.raises(MapError, match="no answers or no cells in common"):
        probe_map.difference(fit_map(states, correct, positions=NAMES, ids=[f"x{i}" for i in range(240)]))


def test_probe_map_plot_returns_a_display(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES).only(NAMES[1:])
    assert isinstance(probe_map, ProbeMap)
    open_before = plt.get_fignums()
    display = probe_map.plot(value="accuracy", cmap="Greens")
    assert plt.get_fignums() == [*open_before, display.figure.number], "pyplot shows it"
    plt.close(display.figure)
    assert np.asarray(display.axes[0].images[0].get_array()).shape == (3, 2)
    assert display._repr_png_().startswith(b"\x89PNG")
    display.save(tmp_path / "map.svg")
    assert "exact_answer_last" in (tmp_path / "map.svg").read_text()
