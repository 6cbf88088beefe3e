"""The small world that every run here is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from attune.worlds.language import Built, build
from tests.recipes.conftest import world

__all__ = ["world"]


@pytest.fixture(scope="session")
def places(world: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `$name` stands for in overrides: models and data."""
    folder = tmp_path_factory.mktemp("places")
    dropping = Path(shutil.copytree(world.model, folder / "dropping"))
    said = json.loads((dropping / "config.json").read_text("utf-8"))
    (dropping / "config.json").write_text(json.dumps({**said, "attention_dropout": 0.2}), "utf-8")
    other = build(folder / "other", seed=1, size="tiny", num_demonstrations=30, num_preferences=12, num_prompts=12)
    found = {"model": world.model, "dropping": dropping, "demonstrations": world.demonstrations, "preferences": world.preferences, "prompts": world.prompts}
    found |= {"other_model": other.model, "other_preferences": other.preferences}
    return {name: str(path) for name, path in found.items()}
