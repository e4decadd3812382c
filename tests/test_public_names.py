"""The public names: typed, documented, and with examples that run."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import probemap

DOCUMENTED = [name for name in probemap.__all__ if not isinstance(getattr(probemap, name), str | dict)]


def test_public_names_are_typed() -> None:
    tree = ast.parse(Path(str(probemap.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.asname: str(node.module).removeprefix("probemap.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == probemap._MODULE_OF


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_of_public_names_run(name: str) -> None:
    value = getattr(probemap, name)
    module = importlib.import_module(value.__module__)
    tests = doctest.DocTestFinder(recurse=False).find(value, name, module)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0, f"the docstring of {name} has no example"
