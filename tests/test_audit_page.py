"""The page on which a person labels answers, in a real browser."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import RecordedPage
from playwright.sync_api import Browser, Page, expect
from pydantic import TypeAdapter
from test_page_hostile import CHANGED, SHOWN

from probemap.records import AuditRow
from probemap.views.audit_page import render_audit

ROWS = [
    AuditRow(
        id=f"q{k}",
        question=f"Question {k}?",
        context="A text.\nIts end." if k == 1 else "",
        choices=("Rome", "Paris") if k == 1 else (),
        accepted=("Rome", "Roma"),
        answer=f"Answer\n{k}.",
        correct=True if k == 0 else None,
        note="hard" if k == 2 else "",
    )
    for k in range(4)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.html"
    path.write_text(render_audit(ROWS, "capitals"), encoding="utf-8")
    return path


def downloaded(page: Page) -> list[AuditRow]:
    """Return the rows of the file that the page saves."""
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "audit.jsonl"
    lines = Path(download.value.path()).read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert [list(json.loads(line)) for line in lines] == [list(asdict(ROWS[0]))] * len(lines)
    return [TypeAdapter(AuditRow).validate_json(line) for line in lines]


def test_labels_are_entered_by_key_and_by_button_and_saved_as_a_file(browser: Browser, path: Path) -> None:
    recorded = RecordedPage(browser, path)
    page = recorded.page
    assert page.inner_text("h1") == "Label answers: capitals"
    assert page.inner_text("#number") == "Answer 2 of 4"  # the first one has a label
    assert page.locator("#texts dt").all_inner_texts() == ["Context", "Question", "Choices", "Accepted answers"]
    texts = page.locator("#texts dd").all_inner_texts()
    assert texts == ["A text.\nIts end.", "Question 1?", "Rome; Paris", "Rome; Roma"]
    assert page.inner_text("#answer") == "Answer\n1."
    page.keyboard.press("i")
    assert page.inner_text("#number") == "Answer 3 of 4"
    assert page.locator("#texts dt").all_inner_texts() == ["Question", "Accepted answers"]
    assert page.input_value("#note") == "hard"
    page.fill("#note", "unclear")  # its letters are no keys
    page.keyboard.type(" c")
    page.click("#unclear")
    page.keyboard.press("b")
    page.keyboard.press("b")
    assert page.get_attribute("#incorrect", "aria-pressed") == "true"
    page.keyboard.press("n")
    page.keyboard.press("Control+c")
    page.keyboard.press("z")
    assert page.inner_text("#number") == "Answer 3 of 4"
    assert page.get_attribute("#unclear", "aria-pressed") == "true"
    assert page.inner_text("#progress") == "3 of 4 answers are labelled."
    rows = downloaded(page)
    assert [row.correct for row in rows] == [True, False, "cannot tell", None]
    assert [row.note for row in rows] == ["", "", "unclear c", ""]
    assert [(row.id, row.question, row.context, row.choices, row.accepted, row.answer) for row in rows] == [
        (row.id, row.question, row.context, row.choices, row.accepted, row.answer) for row in ROWS
    ]
    page.click("#next")
    page.keyboard.press("C")
    assert page.inner_text("#progress") == "All 4 answers are labelled. Download the file."
    expect(page.locator("#next")).to_be_disabled()
    # The labels are still there when the page is opened again.
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    assert [row.correct for row in downloaded(page)] == [True, False, "cannot tell", True]
    recorded.requests[1:] = []  # the page itself, once more
    recorded.close()


def test_stored_labels_belong_to_the_answers_of_the_page(browser: Browser, path: Path, tmp_path: Path) -> None:
    recorded = RecordedPage(browser, path)
    recorded.page.keyboard.press("i")
    other = tmp_path / "other.html"
    other.write_text(render_audit(ROWS[:3]), encoding="utf-8")
    recorded.page.goto(other.as_uri())
    recorded.page.wait_for_selector("html[data-ready=yes]")
    assert recorded.page.inner_text("#progress") == "1 of 3 answers are labelled."
    recorded.page.evaluate("for (const key of Object.keys(localStorage)) localStorage.setItem(key, '[1')")
    recorded.page.goto(path.as_uri())
    recorded.page.wait_for_selector("html[data-ready=yes]")
    assert recorded.page.inner_text("#progress") == "1 of 4 answers are labelled."
    recorded.requests[1:] = []
    recorded.close()


def test_page_warns_if_labels_cannot_be_stored(browser: Browser, path: Path) -> None:
    recorded = RecordedPage(browser, path)
    recorded.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
    recorded.page.keyboard.press("c")
    assert "does not keep the labels" in recorded.page.inner_text("#message")
    assert [row.correct for row in downloaded(recorded.page)] == [True, True, None, None]
    recorded.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(browser: Browser, path: Path, scheme: str) -> None:
    recorded = RecordedPage(browser, path, viewport={"width": 800, "height": 700}, color_scheme=scheme)
    recorded.page.keyboard.press("c")
    recorded.page.keyboard.press("b")
    result = Axe().run(recorded.page)
    assert result.violations_count == 0, result.generate_report()
    recorded.close()


def test_hostile_texts_are_shown_as_text_and_saved_unchanged(browser: Browser, tmp_path: Path) -> None:
    evil = [*SHOWN, *(text for text in CHANGED if "\ud800" not in text)]
    rows = [
        AuditRow(id=text, question=text, context=text, choices=(text,), accepted=(text,), answer=text, note=text)
        for text in evil
    ]
    path = tmp_path / "evil.html"
    path.write_text(render_audit(rows, evil[0]), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    assert page.inner_text("h1") == f"Label answers: {evil[0]}"
    for number, text in enumerate(evil):
        assert page.inner_text("#number") == f"Answer {number + 1} of {len(evil)}"
        if text in SHOWN:
            assert page.locator("#texts dd").all_text_contents() == [text] * 4
            assert page.text_content("#answer") == text
        assert page.locator("#texts dd *, #answer *, h1 *").count() == 0
        page.keyboard.press("u")
    assert page.evaluate("window.pwned") is None
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    saved = downloaded(page)
    assert {row.correct for row in saved} == {"cannot tell"}
    assert [(row.id, row.answer, row.accepted, row.note) for row in saved] == [(t, t, (t,), t) for t in evil]
    assert page.evaluate("window.pwned") is None
    recorded.requests[1:] = []
    recorded.close()


def test_injected_scripts_are_blocked(browser: Browser, path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.html"
    changed.write_text(path.read_text().replace("</main>", "</main><script>window.pwned = 1</script>"))
    page = browser.new_page()
    page.goto(changed.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.evaluate("window.pwned") is None
    page.close()
