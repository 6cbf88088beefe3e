"""What the tests of the importers share: a configuration written, imported, and its recipe checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from attune.config.importers import Imported, import_config
from attune.config.load import build_recipe
from attune.config.recipe import Stage
from attune.recipes.assemble import check


def imported(tmp_path: Path, config: dict[str, Any], name: str = "config.yaml", **more: Any) -> tuple[Imported, Stage]:
    """Returns what came of a configuration, with its recipe checked as a run would."""
    path = tmp_path / name
    path.write_text(json.dumps(config) if name.endswith(".json") else yaml.safe_dump(config), "utf-8")
    found = import_config(path, **more)
    recipe = build_recipe(found.recipe)
    check(recipe)
    return found, recipe.stages[0]


def signals(stage: Stage) -> list[str]:
    assert stage.data is not None
    return [signal.name for signal in stage.data.signal]


def told(found: Imported, *words: str) -> bool:
    return any(all(word in note for word in words) for note in found.notes)
