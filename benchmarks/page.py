"""How large a report is, and how soon it can be used; ``python benchmarks/page.py``.

Needs Chromium and the dev extras.  Random scores and made-up answers; the page is opened several times in a browser
that was started before, from the click on the file to the moment when its map is drawn and its controls work.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from report import head, machine, row, spread, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browsing import QUIET
from test_report import leaf
from test_values import from_scores

from probemap.views.report import Leaf, Sheet, render

SIZES = ((32, 15, 1_000), (80, 15, 10_000))
REPEATS = 7


def page(n_layers: int, n_positions: int, n: int) -> tuple[str, float]:
    """(a page, the seconds that making it took)."""
    draw = np.random.default_rng(0)
    correct = draw.random(n) < 0.4
    scores = (draw.normal(size=(n, n_layers, n_positions)) + correct[:, None, None]).astype(np.float32)
    names = [str(k) for k in range(-n_positions, 0)]
    one = leaf("These are some words of an answer, as models give them. " * 4, question="How many are there in all?")
    leaves = [Leaf(one.example, one.answer, one.judgement, np.full(n_positions, 2)) for _ in range(n)]
    probe_map = from_scores(scores, correct, names=names, folds=5)
    started = time.perf_counter()
    made = render([Sheet(probe_map, "a map", leaves)])
    return made, time.perf_counter() - started


def opening(browser: Browser, path: Path) -> float:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    started = time.perf_counter()
    tab.goto(path.as_uri(), wait_until="commit")
    tab.wait_for_selector("html[data-ready=yes]")
    took = time.perf_counter() - started
    tab.close()
    return took


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for n_layers, n_positions, n in SIZES:
            made, seconds = page(n_layers, n_positions, n)
            path = Path(folder) / "report.html"
            path.write_text(made, encoding="utf-8")
            took = [opening(browser, path) for _ in range(REPEATS + 1)][1:]  # the first warms up
            listed = made.count('"question"')
            rows.append(
                (
                    f"{n_layers} × {n_positions}",
                    n,
                    listed,
                    f"{path.stat().st_size / 1e6:.1f}",
                    spread(took),
                    f"{seconds:.0f}",
                )
            )
    lines = ["# The report", "", machine(), "", f"Seconds to open: median (lowest to highest) of {REPEATS}.", ""]
    lines += head("layers × positions", "answers", "of them listed", "MB", "seconds to open", "seconds to make")
    write("page", [*lines, *(row(*cells) for cells in rows)])


if __name__ == "__main__":
    main()
