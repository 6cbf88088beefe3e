"""Folders of somebody else: safetensors only, nothing from outside of them, and whatever their files make a library do ends in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attune.core.errors import AttuneError


@contextmanager
def foreign(what: str, place: str, field: str = "model") -> Iterator[None]:
    """Inside the block a library reads files that decide what it does; whatever it raises then is the files' fault.

    Args:
        what: "the model", "the adapter".
        place: its folder or hub id.
        field: of the recipe.

    Raises:
        AttuneError: the library could not read it; the reason is the library's own. `--debug` shows where.
    """
    try:
        yield
    except AttuneError:
        raise
    except Exception as error:  # a configuration can make a library fail in any way there is
        said = str(error).strip() or type(error).__name__
        raise AttuneError(f"{what} cannot be read: {said}", field=field, value=place) from error


def read_object(path: str | Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds; raises AttuneError where it holds something else."""
    try:
        said = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AttuneError(f"the file cannot be read as JSON: {error}", file=str(path)) from error
    if not isinstance(said, dict):
        raise AttuneError("the file holds no object", file=str(path), value=said)
    return said


def base_of_adapter(path: str) -> str | None:
    """Returns where the model of an adapter's folder lies; None where the path is no such folder."""
    config = os.path.join(path, "adapter_config.json")
    if not os.path.isfile(config):
        return None
    base = read_object(config).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise AttuneError("the adapter does not say which model it belongs to", file=config, field="base_model_name_or_path")
    return base


def check_weights(path: str) -> None:
    """Raises AttuneError for a path that does not exist or whose weights are pickles, wholly or in part; a hub id (owner/name) is left to transformers."""
    if not os.path.isdir(path):
        if os.path.exists(path) or path.startswith(("/", ".", "~")) or path.count("/") != 1:
            raise AttuneError("there is no folder with a model", field="model", value=path, allowed="a folder, or a hub id such as owner/name")
        return
    names = os.listdir(path)
    if not any(name.endswith(".safetensors") for name in names):
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
        mend = "a pickle can run code; save the model again in safetensors" if pickled else "the folder holds no weights"
        raise AttuneError("only safetensors are read", file=os.path.join(path, pickled or ""), field="model", mend=mend)
    for name in (name for name in names if name.endswith(".safetensors.index.json")):
        shards = read_object(os.path.join(path, name)).get("weight_map")
        for shard in shards.values() if isinstance(shards, dict) else (shards,):
            if not isinstance(shard, str) or not shard.endswith(".safetensors") or os.path.basename(shard) != shard:
                allowed = "names of safetensors files in the same folder"
                raise AttuneError("only safetensors are read", file=os.path.join(path, name), field="weight_map", value=shard, allowed=allowed)
