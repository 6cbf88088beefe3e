"""The budget of passes: what the recipe says, else what was chosen once for this run, whatever memory there is later."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune.config.load import build_recipe
from attune.config.recipe import Stage
from attune.recipes.passes import FILE, budget_of
from attune.recipes.progress import Watcher
from attune.runs.directory import RunDirectory
from attune.training import memory
from attune.training.microbatch import Budget
from tests import tiny
from tests.training.helpers import items, objective


def stage(**train: object) -> Stage:
    said = {"name": "r", "stages": [{"name": "s", "model": {"path": "m"}, "data": {"train": "d"}, "objectives": [{"name": "dpo"}], "train": train}]}
    return build_recipe(said).stages[0]


def test_the_choice_is_made_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, policy, batch = RunDirectory(tmp_path), tiny.policy(), items(4)

    def budget(one: Stage, place: RunDirectory | None = run) -> Budget:
        return budget_of(one, policy, [objective("dpo")], batch, place, watcher=Watcher(quiet=True))

    run.write_json("provenance.json", {"recipe": "first"})
    monkeypatch.setattr(memory, "available", lambda device: 10**15)
    ample = budget(stage())
    assert ample == Budget(memory.MOST_TOKENS["cpu"])
    monkeypatch.setattr(memory, "MOST_TOKENS", {"cpu": 77})
    assert budget(stage()) == ample, "the run has chosen"
    assert budget(stage(), None) == Budget(77), "a dry run has not"
    assert budget(stage(tokens_per_pass=123)) == Budget(123), "a number is taken as it is"
    run.write_json("provenance.json", {"recipe": "second"})
    assert budget(stage()) == Budget(77), "what another recipe chose in this directory says nothing"
    assert run.read_json(FILE)["tokens"] == 77
