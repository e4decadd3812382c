"""The public names are typed; `test_docs` tests their documentation."""

import ast
from pathlib import Path

import probemap


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
