"""The rules of the house: who imports whom, what nobody may do, and that what the README says is so."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import probemap

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "probemap"
MODULES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"
}
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOOKS_DOWN = {
    ("probing.probe_map", "views.notebook"),  # a notebook asks a value to show itself
    ("detectors.detector", "detectors.scorer"),  # a detector is asked for one answer's score
}


def order() -> list[str]:
    """Every module in the order in which README and the packages' own words list them."""
    made = []
    for name, package in re.findall(r"^  (\w+)(\.py|/) ", README, re.MULTILINE):
        if package == ".py":
            made.append(name)
            continue
        made += listed(name)
    return made


def listed(package: str) -> list[str]:
    """The modules of a package in the order of its docstring, those of its own packages in their place."""
    words = str(import_module(f"probemap.{package}").__doc__)
    made: list[str] = []
    for module in re.findall(r"^    (\w+)  ", words, re.MULTILINE):
        place = f"{package}.{module}"
        made += listed(place) if (PACKAGE / place.replace(".", "/")).is_dir() else [place]
    return made


ORDER = order()


def trees() -> list[tuple[str, ast.Module]]:
    return [(name, ast.parse(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()]


def imported(node: ast.ImportFrom) -> list[str]:
    """The modules of the house that a statement imports from."""
    if node.module == "probemap":
        return [alias.name for alias in node.names]
    if not (node.module or "").startswith("probemap."):
        return []
    place = str(node.module).removeprefix("probemap.")
    return [place] if place in MODULES else [f"{place}.{alias.name}" for alias in node.names]


def test_every_room_is_listed_once_where_it_lies() -> None:
    assert sorted(ORDER) == sorted(MODULES)


def test_a_module_imports_only_from_rooms_above_it() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for other in imported(node):
                    if (name, other) not in LOOKS_DOWN:
                        assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_only_three_rooms_know_transformers() -> None:
    knowing = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(n.split(".")[0] == "transformers" for n in names):
                knowing.add(name)
    assert knowing <= {"models.model", "models.generate"}


def test_nobody_evaluates_pickles_or_trusts_remote_code() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not {a.name for a in node.names} & {"pickle", "joblib", "dill", "marshal", "shelve"}, name
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "compile", "__import__"), f"{name}: {called}"
                for keyword in node.keywords:
                    if keyword.arg == "trust_remote_code":
                        assert ast.unparse(keyword.value) == "False", name


def test_no_module_keeps_state() -> None:
    for name, tree in trees():
        assert not any(isinstance(node, ast.Global) for node in ast.walk(tree)), name


def test_rooms_stay_readable() -> None:
    lengths = {name: path.read_text(encoding="utf-8").count("\n") for name, path in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_every_public_name_exists_and_is_documented() -> None:
    for name in probemap.__all__:
        thing = getattr(probemap, name)
        assert isinstance(thing, str | dict) or thing.__doc__, name
    with pytest.raises(AttributeError, match="module 'probemap' has no attribute 'nothing'"):
        probemap.nothing  # noqa: B018


def test_the_readme_s_python_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # the README is ours
    assert re.match(r"Cell\(layer=2, position='exact_answer_last', auc=0\.9\d", capsys.readouterr().out)


def test_the_readme_s_row_is_a_row(tmp_path: Path) -> None:
    (row,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    (tmp_path / "questions.jsonl").write_text(row)
    (example,) = probemap.load_task(tmp_path / "questions.jsonl").examples
    assert example.answers == tuple(json.loads(row)["answers"])


def test_the_readme_s_commands_are_verbs_and_targets() -> None:
    from typer.main import get_command

    from probemap.cli.main import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    for line in re.findall(
        r"^(probemap|make) (\S+)(.*)$", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)), re.MULTILINE
    ):
        if line[0] == "make":
            assert re.search(rf"^{line[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        else:
            options = {o for p in verbs[line[1]].params for o in p.opts}
            assert set(re.findall(r"--[\w-]+", line[2])) <= options
    table = re.findall(r"^\| `probemap ([\w -]+)` \| (.*?) \|", README, re.MULTILINE)
    from probemap.runs.run import OUTPUTS

    assert {step: tuple(re.findall(r"`([\w.]+)`", made)) for step, made in table} == {
        **OUTPUTS,
        "answer": ("answers.jsonl",),
    }


def test_the_command_line_reference_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "typer", "probemap.cli.main", "utils", "docs", "--name", "probemap"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert made.strip() == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").strip(), (
        "python -m typer probemap.cli.main utils docs --name probemap --output docs/cli.md"
    )


def test_every_verb_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb in (
        "run",
        "demo",
        "answer",
        "judge",
        "capture",
        "verify",
        "check",
        "import-states",
        "attention",
        "p-true",
        "map",
        "plot",
        "show",
        "inspect",
        "tasks",
        "positions",
        "resample",
        "errors",
        "choose",
        "baselines",
        "transfer",
    ):
        assert f"## `probemap {verb}`" in reference
