"""Two ranks give one process's weights and numbers: data parallel and sharded, full and LoRA, shares of different sizes, coupled losses."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.errors import RunError
from attune.policies.sharding import whole
from attune.runs.directory import RunDirectory
from attune.training.distributed import SINGLE, World, spread
from attune.training.engine import train
from tests.distributed.ranks import on_ranks
from tests.distributed.setting import Setting, difference, go, learner, model
from tests.training.helpers import items

PARALLEL = ("data", "fsdp")
COST = {"computed_tokens", "model_flops"}
"""Metrics of how much was computed: rows of one pass share what they begin with, and ranks have other passes."""
FEW = 3
SETTINGS = {
    "dpo": Setting(per_update=3, tokens_per_pass=None),
    "lora": Setting(per_update=3, tokens_per_pass=None, lora=True, reference="adapter_off"),
    "coupled over the update": Setting(objectives=("kto", "sft"), updates=FEW),
    "one group an update": Setting(per_update=1, updates=FEW),
    "a reference that moves": Setting(reference="moving", updates=FEW, per_update=3, tokens_per_pass=90),
    "groups in pieces": Setting(updates=FEW, per_update=3, tokens_per_pass=40),
}
CASES = [(name, parallel) for name in SETTINGS for parallel in PARALLEL if parallel == "fsdp" or name not in ("lora", "a reference that moves")]


@cache
def alone(name: str, folder: str) -> Any:
    return go(SETTINGS[name], SINGLE, folder=folder)


@pytest.mark.parametrize(("name", "parallel"), CASES)
def test_two_ranks_give_the_weights_and_numbers_of_one_process(name: str, parallel: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Weights after all updates within 1e-6 relative; every line of metrics too; sharded parameters are DTensors on all ranks."""
    one = alone(name, str(tmp_path_factory.getbasetemp() / f"alone {name}"))
    found = on_ranks(tmp_path / "ranks", lambda world: go(SETTINGS[name], world, folder=str(tmp_path / "run")), parallel=parallel)
    for left in found:
        assert left.sharded == (parallel == "fsdp")
        assert difference(left.weights, one.weights) < 1e-6
    assert len(one.metrics) > SETTINGS[name].updates
    for line, wanted in zip(found[0].metrics, one.metrics, strict=True):
        assert line.keys() == wanted.keys()
        numbers = [(line[key], wanted[key]) for key in wanted.keys() - COST if isinstance(wanted[key], float)]
        assert all(math.isclose(number, other, rel_tol=1e-6, abs_tol=1e-12) for number, other in numbers), (line, wanted)
    assert found[1].metrics == []


def test_early_stopping_is_one_decision_and_brings_the_best_weights_back(tmp_path: Path) -> None:
    """With a rate so large that every update hurts, all ranks stop where one process does, with the weights that were best."""
    setting = Setting(objectives=("sft",), tokens_per_pass=None)
    loop = TrainConfig(updates=9, groups_per_update=3, eval_every=1, patience=2)

    def work(world: World) -> tuple[int, dict[str, Any], float]:
        policy = model(setting)
        spread(policy, world)
        run = RunDirectory(tmp_path / str(world.size), writes=world.main)
        optim = OptimConfig(lr=0.1, warmup=0.0, schedule="constant")
        outcome = train(learner(setting, policy, world), items(3), items(3, seed=3), optim=optim, loop=loop, run=run)
        return outcome.updates, {name: whole(one.detach()) for name, one in policy.module.named_parameters()}, outcome.after["loss"]

    updates, weights, loss = work(SINGLE)
    assert updates < 9
    for found, theirs, after in on_ranks(tmp_path / "ranks", work, parallel="fsdp"):
        assert found == updates
        assert difference(theirs, weights) < 1e-6
        assert after == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_on_one_rank_stops_all_before_the_step(where: str, parallel: str, tmp_path: Path) -> None:
    """Rank 0 has two passes and rank 1, whose numbers are poisoned, has one: both end with one error, weights bitwise as they were, no gradient left."""

    def work(world: World) -> tuple[str, bool]:
        setting = Setting(per_update=3, tokens_per_pass=70)
        policy = model(setting)
        spread(policy, world)
        if world.rank == 1:
            vars(policy)["outputs"] = poisoned(policy.outputs, where)
        parameters = list(policy.module.parameters())
        before = [whole(parameter.detach()).clone() for parameter in parameters]
        with pytest.raises(RunError) as said:
            train(learner(setting, policy, world), items(3), optim=OptimConfig(), loop=TrainConfig(updates=2, groups_per_update=3))
        same = all(torch.equal(whole(parameter.detach()), held) for parameter, held in zip(parameters, before, strict=True))
        return str(said.value), same and all(parameter.grad is None for parameter in parameters)

    (first, untouched), (second, untouched_too) = on_ranks(tmp_path, work, parallel=parallel)
    assert untouched and untouched_too
    assert f"the {where} is not finite; no update was made" in second
    assert first.startswith(second)


def poisoned(outputs: Any, where: str) -> Any:
    """Returns a policy's outputs with NaN in them, or in the gradient that comes back through them."""

    def spoilt(encoded: Any, wants: Any) -> dict[str, Any]:
        found = outputs(encoded, wants)
        for value in found.values():
            if where == "gradient" and value.requires_grad:
                value.register_hook(lambda gradient: gradient * math.nan)
        return {name: value * math.nan for name, value in found.items()} if where == "loss" else found

    return spoilt
