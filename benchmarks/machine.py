"""What the numbers were measured on, without the machine's name."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine() -> dict[str, Any]:
    """Returns processor, cores and memory, and the same as a line of text."""
    said = _processor()
    cores, memory = os.cpu_count() or 1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    features = [name for name in FEATURES if name in said.get("flags", "").split()]
    model = said.get("model name", platform.machine())
    text = f"{model}, {cores} cores ({', '.join(features) or 'no vector features named'}), {memory:.0f} GiB, {platform.system()}"
    return {"processor": model, "cores": cores, "features": features, "memory_gib": round(memory, 1), "system": platform.system(), "text": text}


def versions(opponent: dict[str, str]) -> dict[str, str]:
    """Returns package -> version: the opponent's, of which torch, transformers and peft are attune's too, and Python's."""
    for name in ("torch", "transformers", "peft"):
        assert opponent[name].split("+")[0] == version(name).split("+")[0], f"{name} is {opponent[name]} there and {version(name)} here"
    return {"attune": version("attune"), **opponent, "Python": platform.python_version()}


def _processor() -> dict[str, str]:
    place = Path("/proc/cpuinfo")
    lines = place.read_text().split("\n\n")[0].splitlines() if place.is_file() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
