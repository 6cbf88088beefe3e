"""A run's files, read with tolerance: what is missing or broken becomes a line in the report, never a crash and never a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attune.core.errors import RunError
from attune.runs.directory import RunDirectory


@dataclass(slots=True)
class Source:
    """One directory in a run's layout, and what could not be read in it."""

    run: RunDirectory
    notes: list[str] = field(default_factory=list)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Returns what a JSON file holds; empty, with a note, where it is broken or holds something else; empty where it is missing."""
        try:
            held = self.run.read_json(name)
        except (RunError, OSError) as error:
            self.notes.append(f"{name} cannot be read: {error}")
            return {}
        if held is not None and not isinstance(held, dict):
            self.notes.append(f"{name} holds no mapping and is left out")
            return {}
        return held or {}

    def lines(self, name: str) -> list[Mapping[str, Any]]:
        """Returns the JSON lines of a file up to the first that cannot be read, which is noted; what is no mapping is left out and noted."""
        found: list[Any] = []
        try:
            found.extend(self.run.lines(name))
        except (RunError, OSError) as error:
            self.notes.append(f"{name} cannot be read after {len(found)} lines: {error}")
        kept: list[Mapping[str, Any]] = [line for line in found if isinstance(line, dict)]
        if len(kept) < len(found):
            self.notes.append(f"{name}: {len(found) - len(kept)} lines hold no mapping and are left out")
        return kept

    def text(self, name: str) -> str | None:
        """Returns a text file; None where there is none."""
        try:
            return (self.run / name).read_text("utf-8", "backslashreplace")
        except OSError:
            return None

    def recipe(self) -> Mapping[str, Any]:
        """Returns recipe.yaml as a mapping; empty where it is missing, and with a note where it is broken."""
        try:
            held = yaml.safe_load(self.text("recipe.yaml") or "")
        except yaml.YAMLError:
            self.notes.append("recipe.yaml is not YAML")
            return {}
        return held if isinstance(held, dict) else {}

    def stages(self) -> list[Source]:
        """Returns the stages of a chain in order; a single run is its own only stage."""
        try:
            names = self.run.read_json("stages.json")
        except (RunError, OSError) as error:
            self.notes.append(f"stages.json cannot be read: {error}")
            return [self]
        if names is None:
            return [self]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
            self.notes.append("stages.json holds no list of names and is left out")
            return [self]
        return [Source(RunDirectory(self.run / name)) for name in names]


def within(held: Any, *keys: str) -> Mapping[str, Any]:
    """Returns a mapping inside mappings; empty where something on the way is not one."""
    for key in keys:
        held = held.get(key) if isinstance(held, Mapping) else None
    return held if isinstance(held, Mapping) else {}


def items(held: Any) -> list[Any]:
    """Returns a list as it is, nothing as an empty one, and anything else as a list of itself."""
    return held if isinstance(held, list) else [] if held is None else [held]
