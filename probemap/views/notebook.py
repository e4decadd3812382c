"""A map as a notebook shows it, and the page of a map alone."""

import base64
import io
from html import escape
from pathlib import Path

from probemap.probing.cell_map import CellMap
from probemap.views.heatmap import MapDisplay
from probemap.views.report import Sheet, render


def picture(probe_map: CellMap) -> str:
    """The picture with a line of facts, as HTML without scripts."""
    drawn = io.BytesIO()
    MapDisplay.from_map(probe_map).figure.savefig(drawn, format="png", dpi=160)
    attrs = probe_map.data.attrs
    (best,) = probe_map.best()
    facts = (
        f"{len(probe_map.layers)} layers × {len(probe_map.positions)} positions; {attrs['answers']} answers, "
        f"{attrs['decided']} decided, {attrs['right']} right; highest: layer {best.layer} at {best.position}, "
        f"{best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]"
    )
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return f'<img alt="Map" src="data:image/png;base64,{encoded}" width="500"><p>{escape(facts)}</p>'


def page(probe_map: CellMap, path: str | Path) -> Path:
    """Write the page of a map without its answers."""
    attrs = probe_map.data.attrs
    title = f"{attrs['model']} on {attrs.get('task', 'answers')}" if "model" in attrs else "map"
    Path(path).write_text(render([Sheet(probe_map, title)]), encoding="utf-8")
    return Path(path)
