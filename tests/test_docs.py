"""Documentation: links and anchors resolve, code runs and prints what the page shows, names and numbers exist."""

import ast
import doctest
import inspect
import json
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from typer.main import get_command

import probemap
from probemap.cli.main import app
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import MIN_PER_CLASS
from probemap.probing.baselines import MEANINGS
from probemap.runs.definitions import PLOT, STEPS

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.py"))


def markdown_cells(path: Path) -> str:
    """Return the text of a tutorial: its comments in markdown cells."""
    cells = re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = [cell.removeprefix(" [markdown]\n") for cell in cells if cell.startswith(" [markdown]")]
    return "\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in text)


PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
} | {str(path.relative_to(ROOT)): markdown_cells(path) for path in TUTORIALS}
README, READING, SCALE = PAGES["README.md"], PAGES["docs/reading.md"], PAGES["docs/scale.md"]
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
VERBS: dict[str, click.Command] = get_command(app).commands  # type: ignore[attr-defined]
NEEDS_A_SERVER = {"docs/serving.md"}  # test_docs_serving runs it


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def options(verb: str) -> set[str]:
    return {option for parameter in VERBS[verb].params for option in (*parameter.opts, *parameter.secondary_opts)}


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands in a page's shell blocks, as (program and verb, arguments); continued lines are joined."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return re.findall(r"\b((?:probemap|make) [a-z][\w-]*)([^\n|;&]*)", lines)


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    page = prose(PAGES[name])
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page):
        link = "".join(target)
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name} links to {link}"


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist_with_their_options(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command, arguments in commands(PAGES[name]):
        program, verb = command.split()
        if program == "make":
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), command
        else:
            assert not str(VERBS[verb].help).startswith("Former name"), command
            assert set(re.findall(r"--[a-z][\w-]*", arguments)) <= options(verb) | {"--help"}, command


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist_and_define_the_names(name: str) -> None:
    page = PAGES[name]
    for path in re.findall(r"`((?:probemap|tests|benchmarks|docs)/[\w/.]*)`", page):
        assert (ROOT / path).exists(), f"{name} names {path}"
    for constant, path in re.findall(r"`([A-Z_]+)` in `(probemap/[\w/]+\.py)`", page):
        assert re.search(rf"^{constant}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), constant


@pytest.mark.parametrize("name", sorted(set(PAGES) - NEEDS_A_SERVER))
def test_python_blocks_run_and_print_what_the_page_shows(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # examples write files
    page = PAGES[name]
    namespace: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(compile(code, name, "exec"), namespace)  # our own pages
    printed, shown = capsys.readouterr().out, "".join(blocks(page, "text"))
    if blocks(page, "python") and shown:
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, shown)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.011)  # other processors round differently


PUBLIC = [name for name in probemap.__all__ if name != "__version__"]


def test_public_names_do_not_include_unknown_ones() -> None:
    with pytest.raises(AttributeError, match="module 'probemap' has no attribute 'nothing'"):
        probemap.nothing  # noqa: B018


def documented(value: object) -> list[str]:
    """Return the docstring of a function or class, and those of the public methods of a class."""
    methods = vars(value).values() if isinstance(value, type) else []
    objects = [m.__func__ if isinstance(m, classmethod) else m for m in methods]
    return [inspect.getdoc(o) or "" for o in (value, *objects) if o is value or inspect.isfunction(o)]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings_have_examples_that_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = getattr(probemap, name)
    if not callable(value):
        return  # a dictionary of positions, tasks or steps
    monkeypatch.chdir(tmp_path)
    assert ">>> " in str(value.__doc__), f"probemap.{name} has no example"
    for text in documented(value):
        test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        output: list[str] = []
        assert "SKIP" not in text
        assert runner.run(test, out=output.append).failed == 0, "".join(output)


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isfunction(getattr(probemap, name))])
def test_public_functions_document_every_parameter(name: str) -> None:
    function = getattr(probemap, name)
    text = inspect.getdoc(function) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : |$)", section[1] if section else "", re.MULTILINE)
    names = [entry.lstrip("*") for line in entries for entry in line.split(", ")]
    assert names == list(inspect.signature(function).parameters)
    assert "Returns\n---" in text or inspect.signature(function).return_annotation in (None, "None")


# The site


def test_reference_documents_every_public_name_once() -> None:
    pages = "".join(page for name, page in PAGES.items() if name.startswith("docs/reference/"))
    assert sorted(re.findall(r"^::: probemap\.(\w+)$", pages, re.MULTILINE)) == sorted(PUBLIC)


def test_navigation_lists_every_page_once() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for value in (entry.values() if isinstance(entry, dict) else entry) for page in pages(value)]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    generated = ["index.md", "contributing.md", "changelog.md", "measurements/index.md"]
    sources = [re.sub(r"\.py$", ".md", name.removeprefix("docs/")) for name in PAGES if name.startswith("docs/")]
    assert sorted(pages(config["nav"])) == sorted([*generated, *sources])


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_use_the_public_api_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert [module for module in modules if str(module).startswith("probemap.")] == []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "probemap":
            assert node.attr in probemap.__all__


def test_packages_of_the_site_are_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {re.split(r"[\[>]", requirement)[0] for requirement in extras["docs"]} <= pins


# README


def test_readme_example_prints_the_planted_cell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the example writes a file
    (code,) = blocks(README, "python")
    exec(compile(code, "README.md", "exec"), {})  # our own page
    assert re.match(r"Cell\(layer=2, position='exact_answer_last', auc=0\.9\d", capsys.readouterr().out)


def test_readme_question_row_can_be_read(tmp_path: Path) -> None:
    (row,) = blocks(README, "json")
    (tmp_path / "questions.jsonl").write_text(row)
    (example,) = probemap.load_task(tmp_path / "questions.jsonl").examples
    assert example.answers == tuple(json.loads(row)["answers"])


def test_readme_step_tables_are_generated_from_the_steps() -> None:
    script = {"__name__": "generate", "__file__": str(ROOT / "docs" / "generate.py")}
    exec(compile((ROOT / "docs" / "generate.py").read_text(encoding="utf-8"), "generate.py", "exec"), script)
    assert script["with_tables"](README) == README, "make reference"  # type: ignore[operator]
    table = re.findall(r"^\| `probemap ([\w -]+)` \| (.*?) \|", README, re.MULTILINE)
    assert {step: tuple(re.findall(r"`([\w.]+)`", outputs)) for step, outputs in table} == {
        **{name: step.outputs for name, step in (STEPS | {"plot": PLOT}).items()},
        "answer": ("answers.jsonl",),
    }


# Command-line reference


def test_cli_reference_is_up_to_date() -> None:
    command = ["-m", "typer", "probemap.cli.main", "utils", "docs", "--name", "probemap"]
    generated = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert generated.strip() == PAGES["docs/cli.md"].strip(), "run `make reference`"


def test_cli_reference_lists_every_verb() -> None:
    assert re.findall(r"^## `probemap ([\w-]+)`", PAGES["docs/cli.md"], re.MULTILINE) == list(VERBS)


# How to read a map


def test_reading_names_existing_methods_and_options() -> None:
    assert "`exact_answer_words`" in READING
    assert "exact_answer_words" in MEANINGS
    assert f"fewer than {MIN_PER_CLASS} correct or {MIN_PER_CLASS} incorrect" in READING
    for name in ("nested_best", "confidence_set", "compare", "difference"):
        assert f"`{name}`" in READING
        assert hasattr(ProbeMap, name)
    verbs = ("judge", "capture", "map", "plot", "show")
    assert set(re.findall(r"--[a-z][\w-]+", READING)) <= set().union(*map(options, verbs))
    for picture in re.findall(r'src="([^"]+)"', READING):
        assert (ROOT / "docs" / picture).stat().st_size < 300_000


def test_reading_text_repeats_its_table() -> None:
    table = re.findall(r"^\| ([^|-]+?) \| ([^|]+?) \| ([^|]+?) \|$", READING, re.MULTILINE)
    cells = {row: (real, noise) for row, real, noise in table}
    text = re.sub(r"^\|.*\n", "", READING, flags=re.MULTILINE)
    for row in ("cells better than chance, by the band", "best cell by nested CV"):
        assert all(value.split(" (")[0] in text for value in cells[row])
    assert cells["cells not distinguishable from the best"][0] in text
    assert cells["cells whose own interval is above 0.5"][1] in text
    assert cells["the highest cell's own 95 % interval"][1] in text
    assert cells["lowest, mean, highest cell"][1].split(", ")[0] in text


# Scale


def test_scale_arithmetic_is_correct() -> None:
    table = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", SCALE, re.MULTILINE))
    values = [float(value.split()[0].replace(",", "")) for value in table.values() if value[0].isdigit()]
    weights, answers, layers, d = 70e9, 100_000, 80, 8192
    tokens, generated = answers * (150 + 60), answers * 60
    operations = 2 * weights * tokens
    size = answers * layers * 15 * d * 4
    expected = [
        tokens,
        operations,
        operations / (4 * 400e12) / 3600,
        generated,
        generated / 2000 / 3600,
        size / 1e12,
        size / 2 / 1e12,
        answers * 20 * 5 * d * 2 / 1e12,
        answers * 5 * d * 4 / 1e9,
    ]
    assert values == pytest.approx(expected, rel=0.06)


def test_scale_shows_commands() -> None:
    assert len(commands(SCALE)) >= 5


# The checks themselves


def test_commands_finds_every_command_of_a_shell_block() -> None:
    lines = [
        "```sh",
        "pip install .",
        "probemap map RUN \\",
        "  --c auto",
        "A=1 probemap plot RUN  # note",
        "```",
        "`probemap x --y`",
    ]
    page = "\n".join(lines)
    assert [command for command, _ in commands(page)] == ["probemap map", "probemap plot"]
    assert "--c auto" in commands(page)[0][1]


def test_anchors_are_those_of_the_headings() -> None:
    assert anchors("# How to read: a map\n```sh\n# comment\n```\n## `fit_map`, in short") == {
        "how-to-read-a-map",
        "fit_map-in-short",
    }


def test_pages_have_one_title_and_no_skipped_heading_level() -> None:
    for name, page in PAGES.items():
        levels = [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]
        assert levels.count(1) == 1 == levels[0], name
        assert all(b <= a + 1 for a, b in pairwise(levels)), name
