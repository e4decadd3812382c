"""What the page on reading a map says is so: its code prints what the page shows, and what it names exists."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from probemap.cli.main import app
from probemap.probing.baselines import MEANINGS
from probemap.probing.cell_scores import MIN_PER_CLASS
from probemap.probing.probe_map import ProbeMap

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "reading.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def test_the_page_s_python_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "reading.md", "exec"), {})  # the page is ours
    printed = capsys.readouterr().out
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    # Another processor may round otherwise.
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.011)


def test_the_page_names_what_there_is() -> None:
    assert "`exact_answer_words`" in PAGE
    assert "exact_answer_words" in MEANINGS
    assert f"fewer than {MIN_PER_CLASS} right or {MIN_PER_CLASS} wrong" in PAGE
    for name in ("honest_best", "indistinguishable", "compare", "difference"):
        assert f"`{name}`" in PAGE
        assert hasattr(ProbeMap, name)
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {o for verb in ("map", "plot") for p in commands[verb].params for o in p.opts}
    assert set(re.findall(r"--[a-z][\w-]+", PAGE)) <= options
    for picture in re.findall(r'src="([^"]+)"', PAGE):
        assert (DOCS / picture).stat().st_size < 300_000


def test_the_page_s_text_repeats_its_table() -> None:
    table = re.findall(r"^\| ([^|-]+?) \| ([^|]+?) \| ([^|]+?) \|$", PAGE, re.MULTILINE)
    cells = {what: (real, noise) for what, real, noise in table}
    text = re.sub(r"^\|.*\n", "", PAGE, flags=re.MULTILINE)
    for what in ("cells better than chance, by the band", "best cell, chosen inside, judged outside"):
        assert all(value.split(" (")[0] in text for value in cells[what])
    assert cells["cells not distinguishable from the best"][0] in text
    assert cells["cells whose own interval lies above 0.5"][1] in text
    assert cells["the highest cell's own 95 % interval"][1] in text
    assert cells["lowest, mean, highest cell"][1].split(", ")[0] in text


SCALE = (DOCS / "scale.md").read_text(encoding="utf-8")


def test_the_page_on_size_calculates_right() -> None:
    table = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", SCALE, re.MULTILINE))
    values = [float(value.split()[0].replace(",", "")) for what, value in table.items() if value[0].isdigit()]
    weights, answers, layers, d = 70e9, 100_000, 80, 8192
    tokens, said = answers * (150 + 60), answers * 60
    operations = 2 * weights * tokens
    whole = answers * layers * 15 * d * 4
    expected = [
        tokens,
        operations,
        operations / (4 * 400e12) / 3600,
        said,
        said / 2000 / 3600,
        whole / 1e12,
        whole / 2 / 1e12,
        answers * 20 * 5 * d * 2 / 1e12,
        answers * 5 * d * 4 / 1e9,
    ]
    assert values == pytest.approx(expected, rel=0.06)


def test_the_commands_on_size_are_verbs_with_these_options() -> None:
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    found = re.findall(r"probemap ([a-z-]+) ([^\n\"]*)", "\n".join(re.findall(r"```sh\n(.*?)```", SCALE, re.DOTALL)))
    assert len(found) >= 5
    for verb, rest in found:
        options = {o for p in verbs[verb].params for o in p.opts}
        assert set(re.findall(r"--[a-z][\w-]+", rest)) <= options
