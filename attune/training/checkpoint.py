"""Checkpoints: everything that a run needs to go on as if nothing had happened, in safetensors and JSON, whole or not at all.

update-000100/
  weights.safetensors     the parameters that learn, by name
  optimizer.safetensors   moments and steps, by parameter name
  states.safetensors      methods' moving quantities and generator states
  state.json              update number, recipe fingerprint, early stopping; lists the files and their sizes, written last
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from attune.core.errors import RunError
from attune.core.spec import State
from attune.training.generators import generator_states, set_generator_states

_PREFIX = "update-"
_BEST = "best-"
_GENERATOR = "generator:"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands besides its tensors."""

    update: int
    # updates done
    best_loss: float | None = None
    best_update: int | None = None
    # the evaluation with the lowest loss so far; None: not evaluated yet
    stale: int = 0
    # evaluations since


def save_checkpoint(
    folder: Path,
    progress: Progress,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    states: Mapping[str, State],
    *,
    fingerprint: str,
    best: bool = False,
) -> Path:
    """Writes a checkpoint aside and renames it into place.

    Args:
        folder: the run's checkpoints/.
        progress: where the run stands.
        module: its learning parameters are saved.
        optimizer: its state is saved by parameter name.
        states: method name -> moving quantities.
        fingerprint: of the recipe; a checkpoint of another recipe is refused on loading.
        best: whether it keeps the best weights so far; these are pruned apart.

    Returns:
        The checkpoint's path.

    Raises:
        RunError: it cannot be written; earlier checkpoints are untouched and no part of this one is left.
    """
    target = folder / f"{_BEST if best else _PREFIX}{progress.update:06d}"
    aside = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(_weights(module), aside / "weights.safetensors")
        save_file(_moments(module, optimizer), aside / "optimizer.safetensors")
        moving = {f"{method}/{key}": value.contiguous() for method, state in states.items() for key, value in state.items()}
        save_file({**moving, **{f"{_GENERATOR}{n}": state for n, state in enumerate(generator_states())}}, aside / "states.safetensors")
        files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
        (aside / "state.json").write_text(json.dumps({**asdict(progress), "fingerprint": fingerprint, "files": files}), "utf-8")
        for path in aside.iterdir():
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RunError(f"cannot write a checkpoint: {getattr(error, 'strerror', None) or error}", file=str(target)) from error
    return target


def load_checkpoint(
    path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer | None, *, fingerprint: str
) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Puts a checkpoint's weights, moments and generator state in place and returns its progress and the methods' states.

    Raises:
        RunError: the checkpoint belongs to another recipe or does not fit the model.
    """
    said = json.loads((path / "state.json").read_text("utf-8"))
    if said["fingerprint"] != fingerprint:
        raise RunError(
            "the checkpoint belongs to another recipe",
            file=str(path),
            value=said["fingerprint"],
            allowed=fingerprint,
            mend="resume with the same recipe or start a new run directory",
        )
    load_weights(path, module)
    if optimizer is not None:
        _put_moments(module, optimizer, load_file(path / "optimizer.safetensors"))
    moving = load_file(path / "states.safetensors")
    set_generator_states([moving.pop(name) for name in sorted(moving, key=lambda name: (len(name), name)) if name.startswith(_GENERATOR)])
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in moving.items():
        method, _, name = key.partition("/")
        states.setdefault(method, {})[name] = value
    return Progress(said["update"], said["best_loss"], said["best_update"], said["stale"]), states


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Puts a checkpoint's weights in place; raises RunError where they do not fit the model."""
    weights = load_file(path / "weights.safetensors")
    learning = _weights(module)
    if weights.keys() != learning.keys() or any(weights[name].shape != learning[name].shape for name in weights):
        wrong = sorted(weights.keys() ^ learning.keys()) or [name for name in weights if weights[name].shape != learning[name].shape]
        raise RunError("the checkpoint does not fit the model", file=str(path), value=wrong[:3])
    with torch.no_grad():
        for name, weight in weights.items():
            learning[name].copy_(weight)


def latest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint whose files are all there with their sizes, or None."""
    for path in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        if _complete(path):
            return path
    return None


def best_checkpoint(folder: Path, update: int) -> Path:
    """Returns where the best weights, those after `update`, were saved."""
    return folder / f"{_BEST}{update:06d}"


def prune(folder: Path, keep: int, best_update: int | None) -> None:
    """Deletes all but the newest `keep` checkpoints and the best weights, and what a crash left half-written.

    Called once a checkpoint that knows of the newest best ones is whole, so that whichever checkpoint a run resumes from finds its own.
    """
    old = sorted(folder.glob(f"{_PREFIX}*"), reverse=True)[keep:]
    worse = [path for path in folder.glob(f"{_BEST}*") if best_update is None or path != best_checkpoint(folder, best_update)]
    for path in (*old, *worse, *folder.glob(".*.tmp")):
        shutil.rmtree(path)


def _complete(path: Path) -> bool:
    try:
        files = json.loads((path / "state.json").read_text("utf-8"))["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def _moments(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {f"{names[parameter]}|{key}": value.contiguous() for parameter, state in optimizer.state.items() for key, value in state.items()}


def _put_moments(module: torch.nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in moments.items():
        name, _, moment = key.rpartition("|")
        parameter = parameters[name]
        optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
