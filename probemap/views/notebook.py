"""The representation of a map in a notebook, and the HTML report of a single map."""

import base64
import io
from html import escape
from pathlib import Path

from probemap.probing.cell_map import CellMap
from probemap.views.heatmap import MapDisplay
from probemap.views.report import RunView, render


def map_html(probe_map: CellMap) -> str:
    """Return HTML without scripts that shows the heatmap and a one-line summary of the map."""
    png = io.BytesIO()
    MapDisplay.from_map(probe_map).figure.savefig(png, format="png", dpi=160)
    attrs = probe_map.data.attrs
    (best,) = probe_map.best()
    summary = (
        f"{len(probe_map.layers)} layers × {len(probe_map.positions)} positions; {attrs['answers']} answers, "
        f"{attrs['decided']} decided, {attrs['right']} correct; highest AUC: layer {best.layer}, {best.position}, "
        f"{best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]"
    )
    encoded = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="Map" src="data:image/png;base64,{encoded}" width="500"><p>{escape(summary)}</p>'


def write_report(probe_map: CellMap, path: str | Path) -> Path:
    """Write the HTML report of a map, without a list of its answers.

    Parameters
    ----------
    probe_map : CellMap
    path : str or Path
        Path of the file to write.

    Returns
    -------
    Path
        Path of the written file.
    """
    attrs = probe_map.data.attrs
    title = f"{attrs['model']} on {attrs.get('task', 'answers')}" if "model" in attrs else "map"
    Path(path).write_text(render([RunView(probe_map=probe_map, title=title)]), encoding="utf-8")
    return Path(path)
