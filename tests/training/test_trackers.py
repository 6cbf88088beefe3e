"""Trackers beside metrics.jsonl: each gets the numbers of every update; one that is not installed is named with its mend."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attune.core.errors import ConfigError
from attune.training.trackers import check_trackers, open_trackers


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_numbers_arrive_with_their_update(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[Any] = []
    fake = ModuleType(package)
    monkeypatch.setattr(fake, "init", lambda **options: said.append(options), raising=False)
    monkeypatch.setattr(fake, "log", lambda metrics, step: said.append((step, metrics)), raising=False)
    monkeypatch.setitem(sys.modules, package, fake)
    (track,) = open_trackers([package], run="r", folder=tmp_path, config={"lr": 1.0})
    track(3, {"loss": 0.5})
    assert said == [{"project": "attune", "name": "r", "config": {"lr": 1.0}}, (3, {"loss": 0.5})]


def test_a_tracker_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigError, match="pip install nothing_of_this_name"):
        check_trackers(["nothing_of_this_name"])
