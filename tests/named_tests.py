"""Which tests a document names, as `folder/module::test`, and whether they exist."""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def names_in(folder: str, module: str) -> frozenset[str]:
    """The names of the tests of a module; none where there is no such module."""
    file = TESTS / folder / f"{module}.py"
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )
