"""Trackers that a run may also report to, where they are installed: Trackio, TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attune.core.errors import ConfigError

Tracker = Callable[[int, Mapping[str, float]], None]
"""Takes the number of updates done and the metrics by name."""


def open_trackers(names: Sequence[str], *, run: str, folder: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """Returns a function for each tracker.

    Args:
        names: of "trackio", "tensorboard", "wandb".
        run: name of the run.
        folder: the run's directory; TensorBoard writes below it.
        config: the resolved recipe, shown beside the curves.
    """
    return [_OPEN[name](run, folder, config) for name in names]


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError where a tracker is not installed; nothing is imported."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError("the tracker is not installed", field="train.log_to", value=name, mend=f"pip install {name}")


def _wandb_like(package: str) -> Callable[[str, Path, Mapping[str, Any]], Tracker]:
    def start(run: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
        tracker = importlib.import_module(package)
        tracker.init(project="attune", name=run, config=dict(config))
        return lambda update, metrics: tracker.log(dict(metrics), step=update)

    return start


def _tensorboard(run: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def log(update: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, update)
        writer.flush()

    return log


_OPEN = {"trackio": _wandb_like("trackio"), "wandb": _wandb_like("wandb"), "tensorboard": _tensorboard}
