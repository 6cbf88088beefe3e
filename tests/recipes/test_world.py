"""`attune world`: the parts it names are there and fit each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from attune.config.recipe import ModelConfig, TrainConfig
from attune.core.errors import FormatError
from attune.core.protocols import Row
from attune.core.record import Group, text_of
from attune.data.read import read
from attune.policies.causal import CausalPolicy
from attune.recipes import world as recipe
from attune.recipes.assemble import load_model
from attune.recipes.progress import Watcher
from attune.recipes.world import build_world, fine_tune, make
from attune.worlds.grammar import marks
from attune.worlds.language import build

SMALL: dict[str, Any] = {"size": "tiny", "num_demonstrations": 32, "num_preferences": 8, "num_prompts": 4}


def nats_per_token(policy: CausalPolicy, groups: list[Group]) -> float:
    encoded = policy.collate(groups, [Row(group=index, response=0) for index in range(len(groups))])
    with torch.no_grad():
        return float(-policy.outputs(encoded, ("logp",))["logp"].sum() / encoded.mask.sum())


@pytest.mark.parametrize("train", [False, True])
def test_it_names_where_its_parts_are(train: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned: list[tuple[int, int]] = []
    monkeypatch.setattr(recipe, "build", partial(build, **SMALL))
    monkeypatch.setattr(recipe, "fine_tune", lambda _, seed: lambda policy, groups: tuned.append((seed, len(groups))))
    said = dict(line.split() for line in build_world(tmp_path / "new" / "world", seed=3, train=train, quiet=True).splitlines())
    assert tuned == ([(3, 32)] if train else [])
    assert list(said) == ["model", "demonstrations", "preferences", "prompts"]
    assert [len(list(read(said[name]))) for name in ("demonstrations", "preferences", "prompts")] == [32, 8, 4]
    asked = [{text_of(group.prompt.content) for group in read(said[name])} for name in ("demonstrations", "preferences", "prompts")]
    assert not asked[0] & asked[1] and not asked[1] & asked[2] and not asked[0] & asked[2], "no prompt is on two sides"
    policy = load_model(ModelConfig(path=said["model"]), path=said["model"])
    assert not any(policy.admit(group) for group in read(said["preferences"]))


def test_verdicts_follow_the_marks_more_often_than_not(tmp_path: Path) -> None:
    """The annotators err, but of those pairs whose marks differ they call far more than half as the exact marks do."""
    built = make(tmp_path, fine_tune=None, watcher=Watcher(quiet=True), seed=0, **{**SMALL, "num_preferences": 60})
    num = right = 0
    for group in read(built.preferences):
        scores = [marks(text_of(group.prompt.content), response.text) for response in group.responses]
        for verdict in group.verdicts:
            if len(verdict.tiers) == 2 and scores[verdict.tiers[0][0]] != scores[verdict.tiers[1][0]]:
                num, right = num + 1, right + (scores[verdict.tiers[0][0]] > scores[verdict.tiers[1][0]])
    assert num > 100
    assert right / num > 0.75


def test_fine_tuning_brings_the_model_to_its_demonstrations(tmp_path: Path) -> None:
    """From about ln(vocabulary) nats a token to far below; the saved model is the tuned one, and the preferences are about its own answers."""
    tune = fine_tune(Watcher(quiet=True), seed=0, loop=TrainConfig(updates=30, groups_per_update=16, track_start=False))
    tuned = make(tmp_path / "tuned", fine_tune=tune, watcher=Watcher(quiet=True), seed=0, **SMALL)
    start = make(tmp_path / "start", fine_tune=None, watcher=Watcher(quiet=True), seed=0, **SMALL)
    demonstrations = list(read(start.demonstrations))
    before, after = (nats_per_token(load_model(ModelConfig(path=str(built.model)), path=str(built.model)), demonstrations) for built in (start, tuned))
    assert before > 5.5
    assert after < before - 1.5
    assert {response.generator for group in read(tuned.preferences) for response in group.responses} == {"start"}
    assert {response.generator for group in read(start.preferences) for response in group.responses} == {"author"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(FormatError, match="file: the file cannot be written"):
        build_world(tmp_path / "file", seed=0, train=False, quiet=True)
