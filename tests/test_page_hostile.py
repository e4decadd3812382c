"""Hostile texts in the page: all are shown as text, nothing runs, nothing leaves."""

from pathlib import Path

from browsing import Watched, cell
from playwright.sync_api import Browser
from test_report import NAMES, leaf
from test_values import from_scores, some

from probemap.views.report import Sheet, render

SHOWN = [
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<SCRIPT SRC=//a.invalid/x.js></SCRIPT>",
    "<scr<script>ipt>window.pwned = 1</scr</script>ipt>",
    "<script/x>window.pwned = 1</script >",
    "<script type=module>window.pwned = 1</script>",
    "<script type='application/json' id='data'>{}</script>",
    "</ScRiPt ><img src=x onerror=window.pwned=1>",
    "<img src=x onerror='window.pwned = 1'>",
    "<img src='https://a.invalid/pixel.png'>",
    "<img srcset='https://a.invalid/pixel.png 1x'>",
    "<image xlink:href='https://a.invalid/x'>",
    "<svg onload=window.pwned=1>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x></svg>",
    "<svg><script>window.pwned = 1</script></svg>",
    "<math><mtext><style><img src onerror=window.pwned=1></style></mtext></math>",
    "<iframe src='javascript:window.parent.pwned = 1'></iframe>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<object data='data:text/html,<script>parent.pwned=1</script>'></object>",
    "<embed src='https://a.invalid/x.swf'>",
    "<link rel=stylesheet href='https://a.invalid/x.css'>",
    "<link rel=prefetch href='https://a.invalid/x'>",
    "<style>@import 'https://a.invalid/x.css';</style>",
    "<style>body { background: url(https://a.invalid/x) }</style>",
    "<meta http-equiv=refresh content='0;url=https://a.invalid/'>",
    "<base href='https://a.invalid/'>",
    "<form action='https://a.invalid/'><button>send</button></form>",
    "<input autofocus onfocus=window.pwned=1>",
    "<details open ontoggle=window.pwned=1>more</details>",
    "<video><source onerror=window.pwned=1></video>",
    "<audio src=x onerror=window.pwned=1>",
    "<body onload=window.pwned=1>",
    "<marquee onstart=window.pwned=1>x</marquee>",
    "<a href='javascript:window.pwned=1'>click</a>",
    "<a href='java&#x09;script:window.pwned=1'>click</a>",
    "<a href='data:text/html,<script>opener.pwned=1</script>'>click</a>",
    "<a xlink:href='https://a.invalid/'>click</a>",
    "<u>under</u><br>",
    "<template><img src=x onerror=window.pwned=1></template>",
    "<noscript><p title='</noscript><img src=x onerror=window.pwned=1>'>",
    "<!--><img src=x onerror=window.pwned=1>-->",
    "{{ 7 * 7 }} ${window.pwned = 1} #{7 * 7} <%= 7 * 7 %>",
    "{{constructor.constructor('window.pwned=1')()}}",
    "%{x} %{customdata[0]} <extra></extra>",
    "&lt;script&gt; &amp; &#60;script&#62;",
    "--><!-- ]]> '\"`",
    '\'"><img src=x onerror="window.pwned=1">',
    "__proto__ constructor toString",
]
"""What somebody might slip into a page; each must stand there letter by letter."""

CHANGED = [
    "\u202egnp.exe \u2066hidden\u2069",
    "\x00\x1b[31m\u2028\u2029",
    "\ud800 lone",
    "x" * 100_000,
]
"""What cannot be shown as it is: its place is marked, or it is cut and says so."""

EVIL = [*SHOWN, *CHANGED]

PLAIN = {"b", "bdi", "button", "div", "li", "p", "span"}
"""What an answer is shown with."""


def test_hostile_texts_are_shown_and_do_nothing(browser: Browser, tmp_path: Path) -> None:
    scores, correct = some(len(EVIL) * 4)
    made = from_scores(scores, correct, names=NAMES)
    evil = [leaf(text, question=text, id_=str(k)) for k, text in enumerate(t for t in EVIL for _ in range(4))]
    path = tmp_path / "evil.html"
    sheets = [Sheet(made, title, evil[: 0 if k else None], {title: title}, {title: 3}) for k, title in enumerate(EVIL)]
    path.write_text(render(sheets), encoding="utf-8")
    watched = Watched(browser, path)
    page = watched.page
    while page.is_visible("#more"):
        page.click("#more")
    for button in page.locator("#answers button").all():
        button.click()
    texts = page.inner_text("#answers")
    for text in SHOWN:
        assert texts.count(text) >= 8, "as question and as answer, listed and opened, of the two that have the cell"
    assert "96000 characters left out" in texts
    assert "\\u202egnp.exe" in texts
    assert "\u202e" not in texts
    tags = page.evaluate("[...new Set([...document.querySelectorAll('#answers *')].map((e) => e.localName))]")
    assert set(tags) <= PLAIN
    for number, title in enumerate(EVIL):
        page.select_option("#run", str(number))
        page.mouse.move(*cell(page, 1, 0))
        if title in SHOWN:
            assert page.inner_text("h1") == title
        assert page.locator("h1 *, #made dt *, #made dd *, #dropped li *, option *").count() == 0
    assert page.evaluate("window.pwned") is None
    watched.close()


def test_only_its_own_scripts_run(browser: Browser, tmp_path: Path) -> None:
    """The policy itself: a script that somebody slips into the file is refused."""
    made = render([Sheet(from_scores(*some(), names=NAMES), "a map")])
    slipped = "<script>window.pwned = 1</script><img src='https://a.invalid/x'>"
    changed = tmp_path / "changed.html"
    changed.write_text(made.replace("</main>", f"</main>{slipped}"), encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(changed.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.evaluate("window.pwned") is None
    assert sum("Content Security Policy" in text for text in refused) == 2
    page.close()
