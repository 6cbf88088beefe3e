"""Imports point down: the rows of design section 2, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "attune"

ROWS: list[set[str]] = [
    {"core"},
    {"ops"},
    {"objectives", "signals", "runs"},
    {"policies", "data"},
    {"samplers"},
    {"rewards"},
    {"decoding", "synthesis", "evals", "diagnostics", "worlds"},
    {"training"},
    {"annotate", "report"},
    {"recipes"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(ROWS) for name in names}
CONFIG_MAY_IMPORT = {"config", "core.errors"}
HEAVY = {"torch", "transformers", "peft", "pyarrow", "scipy", "datasets", "typer", "rich", "jinja2"}


def imports(path: Path) -> set[str]:
    """Returns every module that a file imports, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def rooms() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    own = {name.removeprefix("attune.") for name in imports(path) if name.startswith("attune.")}
    if room == "config":
        assert all(any(name == ok or name.startswith(ok + ".") for ok in CONFIG_MAY_IMPORT) for name in own), own
        return
    for name in own:
        other = name.split(".")[0]
        if other in {room, "config"} or other not in LEVEL:
            continue
        assert LEVEL[other] < LEVEL[room], f"{path.relative_to(ROOT)} imports {name}, which stands on the same row or above"


def test_every_folder_has_a_row() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(LEVEL) | {"config"}


def test_only_config_imports_pydantic() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for path in rooms()
        if path.relative_to(ROOT).parts[0] != "config" and any(name.split(".")[0] == "pydantic" for name in imports(path))
    ]
    assert offenders == []


@pytest.mark.parametrize("module", ["attune", "attune.config.load", "attune.cli.main"])
def test_what_must_be_instant_loads_nothing_heavy(module: str) -> None:
    """The counts behind `import attune` < 0.3 s and `attune --help` < 0.5 s: no heavy package is loaded at all."""
    heavy = HEAVY - ({"typer", "rich"} if module == "attune.cli.main" else set())
    code = f"import sys, {module}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]"
