"""Sizes that keep a file readable in one sitting. The lists of exceptions may only shrink."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "attune"
FILE, FUNCTION, METHOD = 400, 60, 120
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_budget(path: Path) -> None:
    name, text = str(path.relative_to(ROOT)), path.read_text("utf-8")
    lines = text.count("\n")
    limit = METHOD if name.startswith("objectives/") else FILE
    assert lines <= LONG_FILES.get(name, limit), f"{name} has {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= LONG_FUNCTIONS.get(f"{name}:{node.name}", FUNCTION), f"{name}:{node.name} has {size} lines"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_public_says_what_it_is(path: Path) -> None:
    """Modules, public classes and public functions have a docstring (methods of protocols and properties may speak for themselves)."""
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
