"""attune turns feedback into aligned models and says, with evidence, how well it worked.

The names below are imported when they are first used, so `import attune` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.core.record import Group as Group
    from attune.core.record import Prompt as Prompt
    from attune.core.record import Rating as Rating
    from attune.core.record import Response as Response
    from attune.core.record import Verdict as Verdict
    from attune.core.spec import method as method
    from attune.core.spec import methods as methods
    from attune.data.read import read as read
    from attune.data.write import write as write
    from attune.diagnostics.doctor import examine_path as doctor
    from attune.policies.causal import load as load_policy
    from attune.recipes.run import run as run
    from attune.report.build import build as build_report

__version__ = "0.1.0"

_WHERE = {
    "Group": "core.record",
    "Prompt": "core.record",
    "Rating": "core.record",
    "Response": "core.record",
    "Verdict": "core.record",
    "method": "core.spec",
    "methods": "core.spec",
    "read": "data.read",
    "write": "data.write",
    "doctor": "diagnostics.doctor:examine_path",
    "load_policy": "policies.causal:load",
    "run": "recipes.run",
    "build_report": "report.build:build",
}

__all__ = ["Group", "Prompt", "Rating", "Response", "Verdict", "build_report", "doctor", "load_policy", "method", "methods", "read", "run", "write"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'attune' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(import_module(f"attune.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
