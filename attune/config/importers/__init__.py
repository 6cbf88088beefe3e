"""Recipes from the configuration files of other trainers, with a list of everything that means something else here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attune.config.importers import llamafactory, trl
from attune.config.importers._fields import Fields, Imported
from attune.config.load import parse_yaml
from attune.core.errors import ConfigError

__all__ = ["Imported", "import_config"]


def import_config(path: str | Path, *, method: str | None = None) -> Imported:
    """Turns a TRL or LLaMA-Factory configuration into a recipe.

    Defaults of the other trainer that differ from ours are written into the recipe, so that it does what the file did.

    Args:
        path: YAML or JSON, as `trl dpo --config` or `llamafactory-cli train` take it.
        method: dpo, cpo, orpo, kto, reward or sft; needed for a TRL file that does not show which command it is for.

    Returns:
        A recipe of one stage for config.load.build_recipe, and one note for each thing that could not be carried over or means something else here.

    Raises:
        ConfigError: not such a file, or what it trains does not exist here (the loss, or which weights).
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError("no such configuration file", file=str(path))
    try:
        text = file.read_text("utf-8")
        raw: Any = json.loads(text) if file.suffix == ".json" else parse_yaml(text, file=str(path))
    except UnicodeDecodeError:
        raise ConfigError("not a text file in UTF-8", file=str(path)) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}", file=str(path), line=error.lineno) from None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigError("a configuration is a mapping with names as keys", file=str(path), value=raw)
    if llamafactory.SIGNS & raw.keys():
        return llamafactory.recipe(Fields(raw, file=file, peer=llamafactory.NAME), method)
    if trl.SIGNS & raw.keys():
        return trl.recipe(Fields(raw, file=file, peer=trl.NAME), method)
    said = f"a key of {trl.NAME} ({', '.join(sorted(trl.SIGNS))}) or of {llamafactory.NAME} ({', '.join(sorted(llamafactory.SIGNS))})"
    raise ConfigError("not recognised as a configuration of another trainer", file=str(path), allowed=said)
