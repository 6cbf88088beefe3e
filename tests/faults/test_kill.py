"""Fault 1, kill -9 during a save: the newest complete checkpoint is always readable, and the run that goes on from it ends as the undisturbed one."""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attune.config.recipe import OptimConfig, TrainConfig
from attune.runs.directory import RunDirectory
from attune.training.checkpoint import latest_checkpoint
from attune.training.engine import train
from tests import tiny
from tests.conftest import Scale, Tally
from tests.faults.forked import begin, wait
from tests.training.helpers import items, learner

SAVES = 20
LOOP = TrainConfig(updates=SAVES, groups_per_update=3, save_every=1, keep_last=2)


def go(place: Path, *, resume: bool = False, on_update: Callable[..., None] | None = None) -> None:
    made = learner(tiny.policy(), ["dpo"])
    train(made, items(7), optim=OptimConfig(lr=1e-3), loop=LOOP, seed=5, run=RunDirectory(place), resume=resume, on_update=on_update)


def bits(place: Path) -> dict[str, str]:
    """The content of every file of the last checkpoint."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((place / "checkpoints" / f"update-{SAVES:06d}").iterdir())}


def announcing(place: Path, save: int, writer: int) -> None:
    """Trains, and says on a pipe when the first file of that save is touched, and when the update that it belongs to is over."""
    begun: list[str] = []

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if not begun and event in ("os.mkdir", "open") and f"update-{save:06d}" in str(given[0]):
            begun.append(event)
            os.write(writer, b"b")

    sys.addaudithook(hear)
    go(place, on_update=lambda done, total, numbers: os.write(writer, b"e") if done == save else None)


def heard(reader: int) -> float:
    """Waits for a word from the child and returns when it came."""
    assert select.select([reader], [], [], 60)[0], "the child never came to its save"
    assert os.read(reader, 1)
    return time.perf_counter()


def killed_in_save(place: Path, save: int, share: float, length: float) -> float:
    """Kills a run -9 that share of a save's length after the save began; returns the length of the save where it came to its end."""
    reader, writer = os.pipe()
    pid, said = begin(lambda: announcing(place, save, writer))
    os.close(writer)
    start = heard(reader)
    if share > 1:
        length = heard(reader) - start
    while time.perf_counter() < start + share * length:
        pass
    os.kill(pid, signal.SIGKILL)
    ended = wait(pid, said)
    os.close(reader)
    assert ended.code in (-signal.SIGKILL, 0), ended.said
    return length


def test_a_kill_during_a_save_never_costs_the_newest_whole_checkpoint(tmp_path: Path, scale: Scale, tally: Tally) -> None:
    go(tmp_path / "whole")
    wanted = bits(tmp_path / "whole")
    length = killed_in_save(tmp_path / "measure", 2, 2.0, 0.0)
    draw, found, violations = random.Random(1), Counter[str](), []
    instants = [(save, draw.random()) for save in range(1, SAVES + 1) for _ in range(10)]
    for number, (save, share) in enumerate(draw.sample(instants, scale(3, 200))):
        place = tmp_path / str(number)
        killed_in_save(place, save, share, length)
        newest = latest_checkpoint(place / "checkpoints")
        update = 0 if newest is None else int(newest.name.removeprefix("update-"))
        left = list((place / "checkpoints").glob(".*"))
        found["half-written" if left else "before" if update < save else "after"] += 1
        first: list[int] = []
        go(place, resume=True, on_update=lambda done, total, numbers, first=first: first.append(done))
        if update < save - 1 or first[:1] != ([] if update == SAVES else [update + 1]) or bits(place) != wanted:
            violations.append((save, share, update, first[:1]))
        if list((place / "checkpoints").glob(".*")) and update < SAVES:
            violations.append((save, share, "parts left after the resumed run"))
    shown = ", ".join(f"{num} {name}" for name, num in found.items())
    tally(1, f"kill -9 at random instants over {SAVES} saves", sum(found.values()), len(violations), f"a save takes {1000 * length:.1f} ms; found {shown}")
    assert not violations
