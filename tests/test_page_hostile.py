"""Hostile texts in the page are shown as text: no script runs and no request is sent."""

from pathlib import Path

from browsing import RecordedPage, cell_centre
from playwright.sync_api import Browser
from synthetic import from_scores, some_scores
from test_report import NAMES, answer_view

from probemap.views.report import RunView, render

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
"""Attempts to inject something into the page; each must be shown letter by letter."""

CHANGED = [
    "\u202egnp.exe \u2066hidden\u2069",
    "\x00\x1b[31m\u2028\u2029",
    "\ud800 lone",
    "x" * 100_000,
]
"""Texts that cannot be shown as they are: they are escaped or shortened."""

EVIL = [*SHOWN, *CHANGED]

ANSWER_ELEMENTS = {"b", "bdi", "button", "div", "li", "p", "span"}
"""Elements that show an answer."""


def test_render_shows_hostile_answers_as_text(browser: Browser, tmp_path: Path) -> None:
    probe_map = from_scores(*some_scores(len(EVIL) * 4), names=NAMES)
    evil = [answer_view(text, question=text, id_=str(k)) for k, text in enumerate(t for t in EVIL for _ in range(4))]
    path = tmp_path / "evil.html"
    path.write_text(render([RunView(probe_map=probe_map, title="a map", answers=evil)]), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    while page.is_visible("#more"):
        page.click("#more")
    for button in page.locator("#answers button").all():
        button.click()
    texts = page.inner_text("#answers")
    for text in SHOWN:
        assert texts.count(text) >= 8, (
            "as question and as answer, in the list and in the details, for two answers with this position"
        )
    assert "96000 characters omitted" in texts
    assert "\\u202egnp.exe" in texts
    assert "\u202e" not in texts
    tags = page.evaluate("[...new Set([...document.querySelectorAll('#answers *')].map((e) => e.localName))]")
    assert set(tags) <= ANSWER_ELEMENTS
    assert page.evaluate("window.pwned") is None
    recorded.close()


def test_render_shows_hostile_titles_and_facts_as_text(browser: Browser, tmp_path: Path) -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    path = tmp_path / "evil.html"
    for first in range(0, len(EVIL), 9):  # a page compares each run with each other
        titles = EVIL[first : first + 9]
        views = [RunView(probe_map=probe_map, title=t, provenance={t: t}, excluded={t: 3}) for t in titles]
        path.write_text(render(views), encoding="utf-8")
        recorded = RecordedPage(browser, path)
        page = recorded.page
        for number, title in enumerate(titles):
            page.select_option("#run", str(number))
            page.mouse.move(*cell_centre(page, 1, 0))
            if title in SHOWN:
                assert page.inner_text("h1") == title
            assert page.locator("h1 *, #provenance dt *, #provenance dd *, #excluded li *, option *").count() == 0
        assert page.evaluate("window.pwned") is None
        recorded.close()


def test_content_security_policy_blocks_injected_scripts(browser: Browser, tmp_path: Path) -> None:
    """A script that is added to the file does not run."""
    html = render([RunView(probe_map=from_scores(*some_scores(), names=NAMES), title="a map")])
    injected = "<script>window.pwned = 1</script><img src='https://a.invalid/x'>"
    changed = tmp_path / "changed.html"
    changed.write_text(html.replace("</main>", f"</main>{injected}"), encoding="utf-8")
    page = browser.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(changed.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.evaluate("window.pwned") is None
    assert sum("Content Security Policy" in text for text in messages) == 2
    page.close()
