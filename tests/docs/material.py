"""What the documentation's tests read: the generator, the pages, and the blocks of code in them."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HAND_WRITTEN = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", DOCS / "index.md", *DOCS.glob("concepts/*.md"), *DOCS.glob("howto/*.md")])

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@cache
def generator() -> ModuleType:
    """Returns docs/generate.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def pages() -> dict[str, str]:
    """Returns path -> text of every generated page."""
    made: dict[str, str] = generator().pages()
    return made


def blocks(text: str, language: str) -> list[str]:
    """Returns the fenced blocks of one language."""
    return [body for name, body in _FENCE.findall(text) if name == language]


def commands(text: str, program: str) -> list[str]:
    """Returns the lines of indented blocks that call a program, continued lines joined, without the remark that three spaces set off."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.split("   ")[0] for line in re.findall(rf"^ {{4}}({program} .*)$", joined, re.MULTILINE)]
