"""Which picture of which runs: every kind can be asked for, and what cannot be drawn is refused before drawing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import execute

from probemap.positions import parse_positions
from probemap.records import DataError, MapError, RunError
from probemap.runs.definitions import ATTENTION
from probemap.runs.options import PlotOptions
from probemap.runs.run import Run
from probemap.runs.steps.plot import plot

PANEL = "last_q,exact_answer_first,exact_answer_last,exact_answer_after_last,-8..-1"
"""The twelve columns of the paper's IMDB panel, figure 6f."""


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


@pytest.mark.parametrize(
    ("drawing", "name"),
    [
        (PlotOptions(), "map"),
        (PlotOptions(value="activation-norm-difference"), "map-activation-norm-difference"),
        (PlotOptions(kind="layers"), "layers-auc"),
        (PlotOptions(kind="positions", value="accuracy", size="slide"), "positions-accuracy"),
    ],
)
def test_a_picture_has_its_name(drawing: PlotOptions, name: str, run: Run) -> None:
    made = plot([run], drawing)
    assert made == [run.path / f"{name}.png", run.path / f"{name}.svg"]
    with Image.open(made[0]) as picture:
        assert picture.width > 900
    assert made[1].read_text().count("<text") > 10


def test_the_paper_s_panel_is_one_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plot([run], PlotOptions(positions=PANEL), out=run.path / "panel.svg")
    texts = (run.path / "panel.svg").read_text()
    names = list(parse_positions(PANEL))
    assert len(names) == 12
    places = [
        texts.index(f">{name.replace('-', '−')}<")
        if f">{name.replace('-', '−')}<" in texts
        else texts.index(f">{name}<")
        for name in names
    ]
    assert places == sorted(places), "in the order that was asked for"
    assert ">first_answer<" not in texts


def test_several_runs_are_drawn_in_a_row_or_subtracted(run: Run, tmp_path: Path) -> None:
    row, difference = tmp_path / "row.png", tmp_path / "difference.pdf"
    assert plot([run, run], out=row) == [row]
    assert plot([run, run], PlotOptions(kind="difference"), out=difference) == [difference]
    assert difference.read_bytes().startswith(b"%PDF")
    with Image.open(row) as wide:
        assert wide.width == pytest.approx(6.9 * 300, abs=1)


def test_attention_is_drawn_where_it_was_captured(run: Run) -> None:
    with pytest.raises(RunError, match=r"holds no attention weights\nhint: `probemap attention .*` captures them"):
        plot([run], PlotOptions(value="attention"))
    execute(ATTENTION, run, positions="last_q,-1")
    with pytest.raises(RunError, match="attention was captured at last_q, -1, not at first_answer"):
        plot([run], PlotOptions(value="attention"))
    assert plot([run], PlotOptions(value="attention", positions="-1,last_q"))[0].exists()
    made = run.with_attention(run.read_map().only(["-1", "last_q"])).data["attention"]
    assert made.dims == ("layer", "position")
    last = made.sel(position="-1").values
    assert ((last > 0) & (last <= 1)).all()
    assert (made.sel(position="last_q").values != last).any()
    with (run.path / "verdicts.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(RunError, match=r"verdicts\.jsonl changed after attention was captured"):
        run.with_attention(run.read_map())


@pytest.mark.parametrize(
    ("count", "drawing", "out", "message"),
    [
        (1, PlotOptions(), "map.gif", "map.gif is not a .png, .svg or .pdf file"),
        (1, PlotOptions(cmap="Bluess"), "map.png", "unknown colour map 'Bluess'"),
        (1, PlotOptions(kind="difference"), "map.png", "cannot draw a difference of auc between 1 runs"),
        (2, PlotOptions(kind="difference", value="f1"), "map.png", "cannot draw a difference of f1 between 2 runs"),
        (2, PlotOptions(kind="layers"), "map.png", "cannot draw curves of 2 runs in one figure"),
        (2, PlotOptions(), None, "a figure of several runs requires a file name"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    count: int, drawing: PlotOptions, out: str | None, message: str, run: Run
) -> None:
    before = sorted(run.path.iterdir())
    with pytest.raises(DataError, match=message):
        plot([run] * count, drawing, out=None if out is None else run.path / out)
    assert sorted(run.path.iterdir()) == before


def test_a_column_that_the_map_lacks_is_named(run: Run) -> None:
    with pytest.raises(MapError, match=r"the map has no column -9\nhint: its columns are last_q, first_answer"):
        plot([run], PlotOptions(positions="last_q,-9"))
    assert np.isfinite(run.read_map().only(["-1"]).auc.values).any()
