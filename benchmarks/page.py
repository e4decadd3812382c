"""Size and opening time of the HTML report: ``python benchmarks/page.py``.

Needs Chromium and the dev extras.  Scores are random and answers invented.  The page is opened several times in a
running browser; the time is from navigation until the map is drawn and the controls work.  Writes
``benchmarks/results/page.md``.
"""

import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from report import machine, row, spread, table_head, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browsing import BROWSER_OPTIONS
from synthetic import from_scores
from test_report import answer_view

from probemap.views.report import RunView, render

SIZES = ((32, 15, 1_000), (80, 15, 10_000))
REPEATS = 7


def page(n_layers: int, n_positions: int, n: int) -> tuple[str, float]:
    """Return a page and the seconds that rendering took."""
    rng = np.random.default_rng(0)
    correct = rng.random(n) < 0.4
    scores = (rng.normal(size=(n, n_layers, n_positions)) + correct[:, None, None]).astype(np.float32)
    names = [str(k) for k in range(-n_positions, 0)]
    example = answer_view(
        "These are some words of an answer, as models give them. " * 4, question="How many are there in all?"
    )
    answers = [replace(example, tokens=np.full(n_positions, 2)) for _ in range(n)]
    probe_map = from_scores(scores, correct, names=names, folds=5)
    started = time.perf_counter()
    html = render([RunView(probe_map=probe_map, title="a map", answers=answers)])
    return html, time.perf_counter() - started


def time_to_open(browser: Browser, path: Path) -> float:
    """Return the seconds until the map is drawn and the controls work."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    started = time.perf_counter()
    tab.goto(path.as_uri(), wait_until="commit")
    tab.wait_for_selector("html[data-ready=yes]")
    seconds = time.perf_counter() - started
    tab.close()
    return seconds


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_OPTIONS)
        for n_layers, n_positions, n in SIZES:
            html, seconds = page(n_layers, n_positions, n)
            path = Path(folder) / "report.html"
            path.write_text(html, encoding="utf-8")
            times = [time_to_open(browser, path) for _ in range(REPEATS + 1)][1:]  # the first one warms up
            n_listed = html.count('"question"')
            rows.append(
                (
                    f"{n_layers} × {n_positions}",
                    n,
                    n_listed,
                    f"{path.stat().st_size / 1e6:.1f}",
                    spread(times),
                    f"{seconds:.0f}",
                )
            )
    lines = ["# The report", "", machine(), "", f"Seconds to open: median (minimum to maximum) of {REPEATS}.", ""]
    lines += table_head("layers × positions", "answers", "listed answers", "MB", "seconds to open", "seconds to render")
    write("page", [*lines, *(row(*cells) for cells in rows)])


if __name__ == "__main__":
    main()
