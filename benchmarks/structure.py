"""Measure the structure of a checkout: ``python benchmarks/structure.py [--root DIR] [--json]``.

Counts lines, modules, long functions, long argument lists, calls with many positional arguments, import cycles, the
longest import chain, and demonstrative names.  The source is parsed and not imported, so any state of the repository
can be measured.  `tests/test_structure.py` enforces limits on these numbers with the same functions.

``--compare BEFORE.json AFTER.json`` prints two measurements side by side.

``--trace`` runs one command (default: `probemap run` on 80 questions about cities with SmolLM2-135M-Instruct) and
counts how often it opens each file of its run directory: ``python benchmarks/structure.py --trace [-- ARGUMENTS]``.

Needs the standard library only; ``--trace`` also needs what the traced command needs.
"""

import argparse
import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

DEMONSTRATIVES = frozenset(
    "made found said one other others here there wanted known mine own told seen heard begun again whole part parts"
    " apart kinds who asked given taken held way look tell say talk left rest lacking twice hired".split()
)
"""Words that say where a value came from, or point at it, instead of naming what it is."""

MUTATORS = frozenset(
    "append extend insert remove pop popitem clear update setdefault add discard sort reverse appendleft extendleft"
    " popleft move_to_end difference_update intersection_update symmetric_difference_update".split()
)
"""Methods that change a list, a dict, a set, a deque or an ordered dict."""

PACKAGE = "probemap"
MAX_LINES, MAX_ARGUMENTS, MAX_POSITIONAL = 50, 9, 5
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: dotted name relative to the package ("" is its `__init__`), lines, and syntax tree."""

    name: str
    lines: int
    tree: ast.Module
    is_package: bool = False
    code_lines: int = 0
    """Lines with code: without blank lines, comments and docstrings."""


def parse(name: str, source: str, *, is_package: bool = False) -> Module:
    tree = ast.parse(source)
    return Module(name, source.count("\n"), tree, is_package, _code_lines(source, tree))


def _code_lines(source: str, tree: ast.Module) -> int:
    """Count the lines with a token that is not a comment, and that are not a string on its own."""
    texts = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in layout]
    return len({line for t in tokens for line in range(t.start[0], t.end[0] + 1)} - texts)


def read_modules(root: Path) -> dict[str, Module]:
    """Parse every module of the package in a checkout, by dotted name relative to the package."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = parse(name, path.read_text(encoding="utf-8"), is_package=is_package)
    return modules


# Functions, arguments, calls


def functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Yield every function and method with its qualified name, module first."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                qualified = f"{prefix}.{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield qualified, child
                yield from visit(child, qualified)
            else:
                yield from visit(child, prefix)

    return visit(module.tree, module.name)


def line_count(function: Function, *, docstring: bool = True) -> int:
    """Return the number of lines of a function, with or without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if docstring or ast.get_docstring(function) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def argument_names(function: Function) -> list[str]:
    """Return the names of all arguments except `self` and `cls`."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def long_argument_lists(modules: Iterable[Module], limit: int = MAX_ARGUMENTS) -> dict[str, int]:
    """Return the functions with more than `limit` arguments, and their number of arguments."""
    counts = {name: len(argument_names(f)) for module in modules for name, f in functions(module)}
    return {name: n for name, n in sorted(counts.items(), key=lambda item: -item[1]) if n > limit}


def positional_calls(modules: Iterable[Module], limit: int = MAX_POSITIONAL) -> list[str]:
    """Return the calls with more than `limit` positional arguments, as ``module:line: call``."""
    return [
        f"{module.name}:{node.lineno}: {ast.unparse(node.func)} ({len(node.args)})"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and len(node.args) > limit
    ]


# Imports


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_nodes(module: Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements of a module, those inside functions too, but not those for type checkers only."""
    stack: list[ast.AST] = [module.tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.stmt) and _is_type_checking(node):
            stack.extend(node.orelse)  # type: ignore[attr-defined]
        else:
            stack.extend(ast.iter_child_nodes(node))


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the absolute name of the module in a ``from`` statement, relative imports resolved."""
    if not node.level:
        return node.module or ""
    parts = [PACKAGE, *(module.name.split(".") if module.name else [])]
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imported_modules(module: Module, modules: Mapping[str, Module]) -> set[str]:
    """Return the modules of the package that a module imports.

    A name of the public interface (``from probemap import fit_map``) is an import of the package's own `__init__`.
    """
    names: set[str] = set()
    for node in import_nodes(module):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        else:
            base = _absolute(module, node)
            dotted = [f"{base}.{alias.name}" for alias in node.names]
        for name in dotted:
            if name.split(".")[0] != PACKAGE:
                continue
            relative = name.removeprefix(PACKAGE).removeprefix(".")
            while relative not in modules and relative:
                relative = relative.rpartition(".")[0]
            names.add(relative)
    return names - {module.name}


def import_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return, for each module, the modules of the package that it imports."""
    return {name: imported_modules(module, modules) for name, module in modules.items()}


def components(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of a graph, each after the components it points to (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for neighbour in sorted(graph[node]):
            if neighbour not in index:
                connect(neighbour)
                low[node] = min(low[node], low[neighbour])
            elif neighbour in stack:
                low[node] = min(low[node], index[neighbour])
        if low[node] == index[node]:
            start = stack.index(node)
            result.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in index:
            connect(node)
    return result


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    return [group for group in components(graph) if len(group) > 1]


def longest_chain(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the longest chain of modules in which each imports the next; a cycle counts as one module."""
    group_of = {name: i for i, group in enumerate(components(graph)) for name in group}
    chains: dict[int, list[str]] = {}
    for i, group in enumerate(components(graph)):
        below = {group_of[name] for member in group for name in graph[member]} - {i}
        longest = max((chains[k] for k in sorted(below)), key=len, default=[])
        chains[i] = ["/".join(group), *longest]
    return max(chains.values(), key=len)


# Names


def bindings(module: Module) -> Iterator[tuple[str, int]]:
    """Yield every name that a module binds, and its line.

    Names are bound by assignments, loops, ``with``, ``except`` and patterns, as arguments, as functions and classes,
    as fields of classes, and as attributes of ``self``.  Imports are not counted.
    """
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.MatchMapping(rest=str(name)):
                yield name, node.lineno


def demonstrative_names(modules: Iterable[Module]) -> tuple[list[str], int]:
    """Return the bindings whose name is demonstrative, as ``module:line: name``, and the number of all bindings."""
    named = [(module.name, name, line) for module in modules for name, line in bindings(module)]
    return [f"{m}:{line}: {name}" for m, name, line in named if name.lstrip("_") in DEMONSTRATIVES], len(named)


# State


def _bound_in(function: Function | ast.Lambda) -> set[str]:
    """Return the names that are local to a function, nested functions excluded."""
    names = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    shared: set[str] = set()
    stack: list[ast.AST] = list(function.body) if isinstance(function.body, list) else [function.body]
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Global(names=declared):
                shared |= set(declared)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
        stack.extend(ast.iter_child_nodes(node))
    return names - shared


def _root(node: ast.expr) -> str | None:
    """Return the name at the root of ``name[...].attribute[...]``."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _mutated(node: ast.AST) -> list[ast.expr]:
    """Return the objects that a statement or expression changes in place."""
    targets: list[ast.expr] = []
    match node:
        case ast.Assign(targets=assigned) | ast.Delete(targets=assigned):
            targets = assigned
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target) | ast.For(target=target):
            targets = [target]
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in MUTATORS:
            return [value]
    flat = [t for target in targets for t in ast.walk(target) if isinstance(t, ast.Subscript | ast.Attribute)]
    return [t.value for t in flat if not isinstance(t.ctx, ast.Load)]


def mutated_state(module: Module) -> list[str]:
    """Return the places where a function changes a name of its module, as ``module:line: name``.

    A name of the module is one that is assigned or imported at module level.  It is changed by ``global``, by
    assigning to or deleting an item or an attribute, by a method such as ``append``, or through ``globals()``.
    """
    top = {name.id for name in _module_level(module.tree) if isinstance(name, ast.Name)}
    libraries: set[str] = set()
    for node in import_nodes(module):
        names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        top |= names
        libraries |= names if isinstance(node, ast.Import) else set()
    changes: list[str] = []

    def visit(node: ast.AST, local: set[str] | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            local = (local or set()) | _bound_in(node)
        elif local is not None:
            if isinstance(node, ast.Global):
                changes.extend(f"{module.name}:{node.lineno}: {name}" for name in node.names)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "globals":
                changes.append(f"{module.name}:{node.lineno}: globals()")
            for changed in _mutated(node):
                name = _root(changed)
                is_library_call = isinstance(node, ast.Call) and isinstance(changed, ast.Name) and name in libraries
                if name in top and name not in local and not is_library_call:  # np.sort(x) changes nothing
                    changes.append(f"{module.name}:{changed.lineno}: {name}")
        for child in ast.iter_child_nodes(node):
            visit(child, local)

    visit(module.tree, None)
    return changes


def _module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the stored names outside functions and classes."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node
        stack.extend(ast.iter_child_nodes(node))


# Forbidden imports and calls

PICKLE_MODULES = frozenset("pickle cPickle _pickle cloudpickle joblib dill marshal shelve".split())
FORBIDDEN_CALLS = frozenset("eval exec compile __import__ torch.load numpy.load np.load".split())


def imported_names(module: Module) -> set[str]:
    """Return the absolute dotted names that a module imports, such as ``torch`` and ``torch.nn.Module``."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def libraries(module: Module) -> set[str]:
    """Return the top-level packages that a module imports, those for type checkers included."""
    return {name.split(".")[0] for name in imported_names(module)}


def unsafe_code(module: Module) -> list[str]:
    """Return the imports and calls that unpickle, evaluate strings, or trust remote code."""
    lines = [f"{module.name}: import {name}" for name in sorted(libraries(module) & PICKLE_MODULES)]
    lines += [f"{module.name}: import {name}" for name in sorted(imported_names(module) & FORBIDDEN_CALLS)]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call in FORBIDDEN_CALLS or call.removeprefix("builtins.") in FORBIDDEN_CALLS:
                lines.append(f"{module.name}:{node.lineno}: {call}()")
            lines += [
                f"{module.name}:{node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if (keyword.arg, ast.unparse(keyword.value)) in _UNSAFE_KEYWORDS
                or (keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False")
            ]
    return lines


_UNSAFE_KEYWORDS = frozenset({("allow_pickle", "True"), ("weights_only", "False")})


# Summary


def measure(root: Path) -> dict[str, Any]:
    """Measure a checkout; return JSON-compatible values."""
    modules = read_modules(root)
    files = {name: module for name, module in modules.items() if not module.is_package}
    all_functions = [(name, f) for module in modules.values() for name, f in functions(module)]
    long = [name for name, f in all_functions if line_count(f) > MAX_LINES]
    long_code = [name for name, f in all_functions if line_count(f, docstring=False) > MAX_LINES]
    calls = sum(isinstance(node, ast.Call) for m in modules.values() for node in ast.walk(m.tree))
    positional = positional_calls(modules.values())
    arguments = long_argument_lists(modules.values())
    graph = import_graph(modules)
    demonstrative, bound = demonstrative_names(modules.values())
    lengths = {name: module.lines for name, module in files.items()}
    largest = max(lengths, key=lambda name: lengths[name])
    groups = cycles(graph)
    chain = longest_chain({name: targets for name, targets in graph.items() if name})
    words = Counter(line.rsplit(" ", 1)[1].lstrip("_") for line in demonstrative)
    return {
        "lines": sum(module.lines for module in modules.values()),
        "code_lines": sum(module.code_lines for module in modules.values()),
        "modules": len(files),
        "median_module_lines": median(lengths.values()),
        "largest_module": {"name": largest, "lines": lengths[largest]},
        "functions": len(all_functions),
        "functions_over_50_lines": {"n": len(long), "percent": _percent(len(long), len(all_functions))},
        "functions_over_50_lines_without_docstring": {
            "n": len(long_code),
            "percent": _percent(len(long_code), len(all_functions)),
            "names": long_code,
        },
        "functions_over_9_arguments": {k: n for k, n in arguments.items() if k.split(".")[0] != "cli"},
        "functions_over_9_arguments_cli": {k: n for k, n in arguments.items() if k.split(".")[0] == "cli"},
        "calls_with_6_or_more_positional": {
            "n": len(positional),
            "per_1000_calls": round(1000 * len(positional) / calls, 1),
            "calls": positional,
        },
        "import_cycles": groups,
        "modules_in_cycles": sum(len(group) for group in groups),
        "longest_import_chain": {"n": len(chain), "modules": chain},
        "demonstrative_names": {
            "percent_of_bindings": _percent(len(demonstrative), bound),
            "n": len(demonstrative),
            "bindings": bound,
            "by_name": dict(words.most_common()),
        },
        "mutated_module_state": [line for module in modules.values() for line in mutated_state(module)],
    }


def _percent(n: int, total: int) -> float:
    return round(100 * n / total, 1)


# Files opened by one command

_HOOK = """
import builtins, io, json, os, sys
from collections import Counter
root, out, arguments = os.path.realpath(sys.argv[1]) + os.sep, sys.argv[2], sys.argv[3:]
opens = Counter()
files = []

def caller():
    frame = sys._getframe(2)
    while frame and (os.sep + "probemap" + os.sep) not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame.f_code.co_qualname if frame else "?"

def hook(event, args):
    if event != "open" or not isinstance(args[0], (str, bytes)):
        return
    path, mode, flags = os.path.abspath(os.fsdecode(args[0])), args[1], args[2]
    if path.startswith(root) and not os.path.isdir(path):
        writing = any(c in mode for c in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
        opens[(path[len(root):], "writes" if writing else "reads", caller())] += 1

class Counting(io.FileIO):
    def __init__(self, path):
        super().__init__(path)
        self.n = 0
        files.append([os.path.abspath(path), os.fstat(self.fileno()).st_size, self])
    def readinto(self, buffer):
        n = super().readinto(buffer)
        self.n += n or 0
        return n
    def readall(self):
        data = super().readall()
        self.n += len(data)
        return data

plain = io.open

def counting_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    path = os.fspath(file) if isinstance(file, (str, os.PathLike)) else ""
    inside = os.path.abspath(path).startswith(root) if isinstance(path, str) else False
    if not inside or mode not in ("r", "rt", "rb") or buffering == 0 or opener:
        return plain(file, mode, buffering, encoding, errors, newline, closefd, opener)
    stream = io.BufferedReader(Counting(path))
    return stream if mode == "rb" else io.TextIOWrapper(stream, encoding, errors, newline)

io.open = builtins.open = counting_open
sys.addaudithook(hook)
from probemap.cli.main import main
sys.argv = ["probemap", *arguments]
try:
    status = main()
except SystemExit as stop:
    status = stop.code
sys.stderr.flush()
with plain(out, "w") as file:
    sizes = [[path[len(root):], size, stream.n] for path, size, stream in files]
    json.dump({"opens": [[*key, n] for key, n in opens.items()], "sizes": sizes}, file)
sys.exit(status or 0)
"""


def trace(root: Path, arguments: list[str] | None) -> dict[str, Any]:
    """Run `probemap` with arguments and count how often it opens each file of the run directory.

    The command runs in one process of its own, in which an audit hook sees every ``open``.  In the arguments, ``RUN``
    stands for the run directory.  A read that covers at least half of a file is a pass; single rows are not.
    """
    default = ["run", "cities", "--model", "smollm2-135m", "--n", "80", "--out", "RUN"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "RUN"
        command = [str(run) if a == "RUN" else a for a in arguments or default]
        result = Path(folder) / "opens.json"
        finished = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _HOOK, str(run), str(result), *command],
            env={**os.environ, "PYTHONPATH": str(root.resolve()), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if finished.returncode:
            sys.exit(finished.stderr)
        counts = json.loads(result.read_text())
    table: dict[str, dict[str, int]] = {}
    readers: dict[str, Counter[str]] = {"run.json": Counter(), "answers.jsonl": Counter()}
    for path, kind, caller, n in counts["opens"]:
        name = Path(path).parts[0]
        table.setdefault(name, {"reads": 0, "passes": 0, "writes": 0})[kind] += n
        if kind == "reads" and name in readers:
            readers[name][caller] += n
    for path, size, n in counts["sizes"]:
        table[Path(path).parts[0]]["passes"] += 2 * n >= size
    return {
        "command": " ".join(["probemap", *(arguments or default)]),
        "opens": {name: row for name, row in sorted(table.items()) if not name.startswith(".")},
        "readers": {name: dict(callers.most_common()) for name, callers in readers.items()},
    }


def comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return a Markdown table of two measurements, made with ``--json``, of one kind each."""

    def rows(values: Mapping[str, Any]) -> dict[str, str]:
        if "opens" in values:
            opens = values["opens"]
            return {
                f"{kind} of `{name}`": str(opens[name][kind])
                for name, kind in (("run.json", "reads"), ("answers.jsonl", "reads"), ("answers.jsonl", "passes"))
            }
        largest, calls = values["largest_module"], values["calls_with_6_or_more_positional"]
        long, code = values["functions_over_50_lines"], values["functions_over_50_lines_without_docstring"]
        names, chain = values["demonstrative_names"], values["longest_import_chain"]
        return {
            "lines": f"{values['lines']:,}",
            "lines of code, without docstrings, comments and blank lines": f"{values['code_lines']:,}",
            "modules": str(values["modules"]),
            "lines of the median module": f"{values['median_module_lines']:g}",
            "lines of the largest module": f"{largest['lines']} (`{largest['name']}`)",
            "functions over 50 lines": f"{long['n']} ({long['percent']} %)",
            "functions over 50 lines without their docstring": f"{code['n']} ({code['percent']} %)",
            "functions with more than nine arguments": str(len(values["functions_over_9_arguments"])),
            "the same in the command line": str(len(values["functions_over_9_arguments_cli"])),
            "calls with six or more positional arguments": f"{calls['n']} ({calls['per_1000_calls']} per 1,000 calls)",
            "modules in import cycles": str(values["modules_in_cycles"]),
            "modules in the longest import chain": str(chain["n"]),
            "demonstrative names": f"{names['percent_of_bindings']} % of bindings",
        }

    old, new = rows(before), rows(after)
    lines = ["| measure | before | after |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {old[name]} | {new[name]} |" for name in new)])


def _shown(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _shown(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{key}: {len(value)}"
            yield from (f"{indent}  {v if isinstance(v, str) else ', '.join(v)}" for v in value)
        else:
            yield f"{indent}{key}: {value}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="the checkout to measure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--trace", action="store_true", help="count the files that one command opens")
    parser.add_argument("--compare", nargs=2, metavar="JSON", help="print two measurements as a Markdown table")
    parser.add_argument("arguments", nargs="*", help="with --trace: arguments of probemap, RUN for the run directory")
    options = parser.parse_args()
    if options.compare:
        print(comparison(*(json.loads(Path(path).read_text(encoding="utf-8")) for path in options.compare)))
        return
    result = trace(options.root, options.arguments) if options.trace else measure(options.root)
    print(json.dumps(result, indent=1) if options.json else "\n".join(_shown(result)))


if __name__ == "__main__":
    main()
