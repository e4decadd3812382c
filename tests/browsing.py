"""A page in a real browser, with all that it says and asks for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""A browser that asks nobody for anything of its own."""


@contextmanager
def launched() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "the page is tested in a browser: `make browser` installs Chromium"
    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=path, args=QUIET)
        yield made
        made.close()


class Watched:
    """A page with all that it says and asks for."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = browser.new_context(**options).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")

    def close(self) -> None:
        self.page.context.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("data:", "blob:"))] == self.asked[:1]


def cell(page: Page, layer: int, position: int) -> tuple[float, float]:
    """Where on the screen a cell of the map lies."""
    x, y = page.evaluate(
        """([row, column]) => {
            const map = document.getElementById("map"), { xaxis, yaxis } = map._fullLayout;
            const box = map.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.c2p(column), box.top + yaxis._offset + yaxis.c2p(row)];
        }""",
        [layer, position],
    )
    return float(x), float(y)
