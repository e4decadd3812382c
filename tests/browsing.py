"""A page in a real browser, with everything that it logs and requests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Options of a browser that sends no requests of its own."""


@contextmanager
def launched() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no browser found: `make browser` installs Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


class RecordedPage:
    """A page that records console messages, errors, dialogs and requests."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_context(**options).new_page()
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.messages.append(f"dialog {dialog.message}"))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")

    def close(self) -> None:
        """Close the page; fails if it logged anything or requested anything but its own file."""
        self.page.context.close()
        assert self.messages == []
        assert [url for url in self.requests if not url.startswith(("data:", "blob:"))] == self.requests[:1]


def cell_centre(page: Page, layer: int, position: int) -> tuple[float, float]:
    """Return the coordinates of a cell of the map in the window."""
    x, y = page.evaluate(
        """([row, column]) => {
            const map = document.getElementById("map"), { xaxis, yaxis } = map._fullLayout;
            const box = map.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.c2p(column), box.top + yaxis._offset + yaxis.c2p(row)];
        }""",
        [layer, position],
    )
    return float(x), float(y)
