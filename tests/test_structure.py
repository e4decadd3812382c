"""The rules of the package's structure, each with a test that its checker detects a violation.

The checkers are those of `benchmarks/structure.py`, which also prints the numbers.
"""

import re
from importlib import import_module
from pathlib import Path

import pytest
import structure
from structure import Module, parse

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "probemap"
MODULES = structure.read_modules(ROOT)
FILES = {name: module for name, module in MODULES.items() if not module.is_package}
GRAPH = structure.import_graph(MODULES)
PACKAGES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Packages")[1].split("\n## ")[0]

MANY_ARGUMENTS = {"maps.fit.fit_map", "detectors.fit.fit_detector"}
"""Functions with one argument per option, like the verbs of the command line."""

ENVIRONMENT = {"cli.main", "workers", "models.vllm_loading"}
"""Modules that set environment variables: of their own process, of a worker process, or for vLLM, which reads some
settings only there."""

MAX_POSITIONAL_CALLS = 15
"""Calls with six or more positional arguments, in the whole package."""

MAX_DEMONSTRATIVE = 2.0
"""Percentage of bindings."""


def module_order() -> list[str]:
    """Return all modules in the order in which CONTRIBUTING.md and the docstrings of packages list them."""
    order: list[str] = []
    for name, suffix in re.findall(r"^  (\w+)(\.py|/) ", PACKAGES, re.MULTILINE):
        order += [name] if suffix == ".py" else modules_of(name)
    return order


def modules_of(package: str) -> list[str]:
    """Return the modules of a package in the order of its docstring, sub-packages expanded in place."""
    order: list[str] = []
    for name in re.findall(r"^    (\w+)  ", str(import_module(f"probemap.{package}").__doc__), re.MULTILINE):
        module = f"{package}.{name}"
        order += modules_of(module) if MODULES[module].is_package else [module]
    return order


ORDER = module_order()


def upward_imports(graph: dict[str, set[str]], order: list[str]) -> set[tuple[str, str]]:
    """Return the imports of a module that comes later in the order, as (importer, imported)."""
    rank = {name: i for i, name in enumerate(order)}
    return {(a, b) for a in rank for b in graph[a] if b not in rank or rank[b] > rank[a]}


def planted(name: str = "planted", **sources: str) -> dict[str, Module]:
    """Parse modules from source, as if they were modules of the package."""
    return {module: parse(module, source) for module, source in (sources or {name: ""}).items()}


def test_module_order_lists_every_module_once() -> None:
    assert sorted(ORDER) == sorted(FILES)


def test_every_module_imports_only_modules_above_it() -> None:
    assert upward_imports(GRAPH, ORDER) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "from probemap.b import x",
        "from probemap import b",
        "import probemap.b",
        "from . import b",
        "from .b import x",
        "def f():\n    from probemap.b import x",
        "if True:\n    import probemap.b as c",
        "from probemap import fit_map",
    ],
)
def test_upward_imports_are_detected(statement: str) -> None:
    modules = {**planted(a=statement, b=""), "": parse("", "", is_package=True)}
    imported = "" if statement.endswith("fit_map") else "b"
    assert upward_imports(structure.import_graph(modules), ["a", "b"]) == {("a", imported)}


def test_imports_for_type_checkers_are_no_upward_imports() -> None:
    modules = planted(a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from probemap.b import x", b="")
    assert upward_imports(structure.import_graph(modules), ["a", "b"]) == set()


def test_imports_have_no_cycles() -> None:
    assert structure.cycles(GRAPH) == []


def test_chains_of_imports_are_short() -> None:
    assert len(structure.longest_chain({name: targets for name, targets in GRAPH.items() if name})) <= 10


def test_cycles_of_lazy_imports_are_detected() -> None:
    modules = planted(
        a="from probemap.b import x",
        b="from probemap.c import x",
        c="def f():\n    import probemap.a",
        d="import probemap.a",
    )
    graph = structure.import_graph(modules)
    assert structure.cycles(graph) == [["a", "b", "c"]]
    assert structure.longest_chain(graph) == ["d", "a/b/c"]
    assert structure.cycles({**graph, "c": set()}) == []
    assert structure.longest_chain({**graph, "c": set()}) == ["d", "a", "b", "c"]


def test_only_models_import_transformers() -> None:
    assert {name for name, module in MODULES.items() if "transformers" in structure.libraries(module)} <= {
        name for name in FILES if name.startswith("models.")
    }


ENGINES = {"models.transformers_engine", "models.vllm_engine", "models.endpoint_engine"}
"""Modules that implement the interface `models.engine.Engine`."""


def test_steps_and_server_import_no_engine_implementation() -> None:
    importers = {name for name, targets in GRAPH.items() if targets & ENGINES}
    assert set(FILES) >= ENGINES
    assert not {name for name in importers if name.startswith(("runs.", "cli.", "server."))}
    assert {name for name, targets in GRAPH.items() if "models.vllm_engine" in targets} == {"models.engines"}


@pytest.mark.parametrize("statement", ["import transformers.utils", "def f():\n    from transformers import AutoModel"])
def test_libraries_are_detected(statement: str) -> None:
    assert structure.libraries(parse("planted", statement)) == {"transformers"}


def test_no_module_unpickles_evaluates_or_trusts_remote_code() -> None:
    assert [line for module in MODULES.values() for line in structure.unsafe_code(module)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib",
        "from torch import load",
        "eval('1')",
        "builtins.exec('1')",
        "np.load(path)",
        "torch.load(path)",
        "load_dataset(name, trust_remote_code=flag)",
        "g(path, allow_pickle=True)",
    ],
)
def test_unsafe_code_is_detected(code: str) -> None:
    assert len(structure.unsafe_code(parse("planted", code))) == 1


def test_unsafe_code_allows_the_safe_values() -> None:
    code = "f(trust_remote_code=False, allow_pickle=False, weights_only=True)\nmodel.eval()\nre.compile(x)"
    assert structure.unsafe_code(parse("planted", code)) == []


def test_no_function_changes_the_state_of_its_module() -> None:
    changes = [line for module in MODULES.values() for line in structure.mutated_state(module)]
    assert [line for line in changes if not (line.split(":")[0] in ENVIRONMENT and line.endswith(" os"))] == []


@pytest.mark.parametrize(
    "body",
    [
        "global STATE; STATE = 1",
        "STATE['a'] = 1",
        "STATE['a']['b'] += 1",
        "del STATE['a']",
        "STATE.update(a=1)",
        "STATE['a'].append(1)",
        "STATE.attribute = 1",
        "IMPORTED.add(1)",
        "os.environ['A'] = '1'",
        "(lambda: STATE.clear())()",
        "a, STATE['b'] = 1, 2",
        "for STATE['a'] in range(3): pass",
        "globals()['STATE'] = 1",
    ],
)
def test_mutated_state_is_detected(body: str) -> None:
    top = "import os\nfrom elsewhere import IMPORTED\nSTATE = {}\n"
    assert len(structure.mutated_state(parse("planted", f"{top}def f():\n    {body}\n"))) == 1
    assert len(structure.mutated_state(parse("planted", f"{top}class A:\n  def f(self):\n    {body}\n"))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "STATE = {}\nSTATE['a'] = 1",
        "STATE = {}\ndef f(STATE):\n    STATE['a'] = 1",
        "STATE = {}\ndef f():\n    STATE = {}\n    def g():\n        STATE['a'] = 1",
        "def f(self):\n    self.rows.append(1)",
        "import numpy as np\ndef f(x):\n    return np.sort(x)",
    ],
)
def test_mutated_state_allows_local_values(code: str) -> None:
    assert structure.mutated_state(parse("planted", code)) == []


def test_functions_have_at_most_nine_arguments() -> None:
    long = structure.long_argument_lists(MODULES.values())
    assert {name for name in long if not name.startswith("cli.")} <= MANY_ARGUMENTS


def test_long_argument_lists_are_detected() -> None:
    module = parse(
        "planted", "class A:\n  def f(self, a, b, c, d, /, e, f, *g, h, i, **j): pass\n  def g(self, *a): pass"
    )
    assert structure.long_argument_lists([module]) == {"planted.A.f": 10}
    assert structure.long_argument_lists([module], limit=10) == {}


def test_calls_pass_at_most_five_arguments_by_position() -> None:
    assert len(structure.positional_calls(MODULES.values())) < MAX_POSITIONAL_CALLS


def test_positional_calls_are_detected() -> None:
    module = parse("planted", "f(1, 2, 3, 4, 5)\nA(1, 2, 3, 4, 5, *b, c=3)\n")
    assert structure.positional_calls([module]) == ["planted:2: A (6)"]


def test_names_are_not_demonstrative() -> None:
    names, n = structure.demonstrative_names(MODULES.values())
    assert 100 * len(names) / n < MAX_DEMONSTRATIVE


def test_demonstrative_names_are_detected() -> None:
    code = """
def told(one, *, here=1):
    made: int = one
    for other, (said, row) in pairs: pass
    with file as found: pass
    self.known = [wanted for wanted in x if (mine := 1)]
    try: pass
    except E as there: pass
class Given:
    taken: int
    _whole = 1
other = one.other
"""
    names, n = structure.demonstrative_names([parse("planted", code)])
    words = "told one here made other said found known wanted mine there taken _whole other".split()
    assert sorted(line.split(": ")[1] for line in names) == sorted(words)
    assert n == len(words) + 2  # and `row`, `Given`


def test_modules_have_at_most_400_lines() -> None:
    assert {name: module.lines for name, module in MODULES.items() if module.lines > 400} == {}
    assert parse("planted", "pass\n" * 401).lines == 401


def test_no_module_is_a_collection_of_leftovers() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "types", "misc"}
    assert [name for name in MODULES if vague & set(name.split("."))] == []


def test_code_lines_exclude_text() -> None:
    text = '"""Text.\n\nMore.\n"""\n\n# comment\n'
    code = 'x = (\n    1\n)\n"""About x."""\ndef f():\n    """Text."""\n    return """a\nb"""\n'
    assert parse("planted", text + code).code_lines == 3 + 1 + 2
