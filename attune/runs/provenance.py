"""Where a run came from: enough to do it again."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("attune", "torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "safetensors", "pyarrow", "pydantic")

_PIECES, _PIECE = 64, 1 << 16  # of a file that is too large to be read whole: how many, and bytes each


def provenance(*, seed: int, data: Iterable[str], recipe_hash: str, streamed: Collection[str] = (), models: Iterable[str] = ()) -> dict[str, Any]:
    """Returns versions, commit, command, seed, data hashes, where models lie and the machine's kind.

    Args:
        seed: the run's seed.
        data: paths of the files that were read; what is not a file (a hub id) is named without a hash.
        recipe_hash: fingerprint of the resolved recipe.
        streamed: those of them that may be larger than memory; of these a hash of pieces is taken (sampled_hash).
        models: paths of models as the recipe names them: whether one is a folder is seen now, from where the run is started, or never.
    """
    return {
        "started": now(),
        "command": " ".join(sys.argv),
        "commit": _commit(),
        "seed": seed,
        "recipe": recipe_hash,
        "data": {path: (sampled_hash if path in streamed else file_hash)(path) if Path(path).is_file() else None for path in data},
        "models": {path: "folder" if Path(path).is_dir() else "hub" for path in models},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def now() -> str:
    """Returns the time in UTC, to the second, in ISO form."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sampled_hash(path: str | Path) -> str:
    """Returns a SHA-256 of a file's size and of pieces of it, evenly spaced, the first and the last among them: quick, whatever the size."""
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for number in range(_PIECES):
            file.seek(max(0, size - _PIECE) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE))
    return f"sampled:{digest.hexdigest()}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit of the working directory's repository with '+' for uncommitted changes; None outside of one."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        if commit.returncode:
            return None
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+" if dirty else "")
