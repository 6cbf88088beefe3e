"""`attune world`: a small world's model and data in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.record import Group
from attune.core.spec import method
from attune.data.write import writing
from attune.recipes.progress import Watcher
from attune.signals.demos.demonstrations import demonstrations
from attune.training.engine import train
from attune.training.source import take
from attune.training.update import Learner, Objective
from attune.worlds.language import Built, FineTune, build

OPTIM = OptimConfig(lr=5e-3, betas=(0.9, 0.98), warmup=0.1)
LOOP = TrainConfig(updates=700, groups_per_update=32, track_start=False)
"""Settings that bring a small model to a middling start: it has the form of an answer, and makes the author's mistakes."""


def build_world(folder: Path, *, seed: int, train: bool, quiet: bool) -> str:
    """Writes a world and returns where its parts are, a line each.

    Args:
        folder: made if it is not there.
        seed: of everything.
        train: whether the model is fine-tuned on the demonstrations.
        quiet: show no progress.
    """
    torch.set_num_threads(1)  # a model this small gains nothing by more, and loses much where the machine is busy
    watcher = Watcher(quiet=quiet)
    built = make(folder, seed=seed, fine_tune=fine_tune(watcher, seed=seed) if train else None, watcher=watcher)
    names = ("model", "demonstrations", "preferences", "prompts")
    return "\n".join(f"{name:<15} {getattr(built, name)}" for name in names)


def make(folder: Path, *, fine_tune: FineTune | None, watcher: Watcher, **options: Any) -> Built:
    """Builds a world with a bar for the sampling; options are those of worlds.language.build."""
    from transformers.utils import logging

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    with watcher.bar("world: sampling answers") as advance:
        return build(folder, fine_tune=fine_tune, on_progress=lambda done, total: advance(done, f"{done}/{total}"), **options)


def fine_tune(watcher: Watcher, *, seed: int, loop: TrainConfig = LOOP) -> FineTune:
    """Returns the supervised fine-tuning of a world's model, in place."""

    def tune(policy: Any, groups: list[Group]) -> None:
        items, _ = take(groups, demonstrations, policy, ("demo",))
        learner = Learner(policy, [Objective("sft", method("sft").spec)])
        with watcher.bar("world: fine-tuning", total=loop.updates) as advance:

            def on_update(done: int, total: int, metrics: Mapping[str, float]) -> None:
                advance(done, f"{done}/{total} loss {metrics['loss']:.3f}")

            train(learner, items, optim=OPTIM, loop=loop, seed=seed, on_update=on_update)

    return tune
