"""Sharded checkpoints: bitwise for the same number of ranks, the same numbers for another, and whole or not at all whoever fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from attune.config.recipe import OptimConfig
from attune.core.errors import RunError
from attune.policies.sharding import whole
from attune.training import checkpoint
from attune.training.checkpoint import Progress, Saved, latest_checkpoint, learning, moments, put_moments, put_weights, save_checkpoint
from attune.training.distributed import SINGLE, World, spread
from attune.training.optim import build_optimizer
from tests.distributed.ranks import on_ranks
from tests.distributed.setting import Setting, difference, go, model

UPDATES, SAVED = 6, 4


def on(folder: Path, size: int, work: Any, parallel: str = "fsdp") -> list[Any]:
    """Returns what `work` returns on each of `size` ranks; a single one is this process."""
    return [work(SINGLE)] if size == 1 else on_ranks(folder, work, size=size, parallel=parallel)


@pytest.mark.parametrize("parallel", ["data", "fsdp"])
def test_a_resumed_run_of_two_ranks_is_the_undisturbed_one_to_the_last_bit(parallel: str, tmp_path: Path) -> None:
    """With dropout, whose generators differ between the ranks, cut after a checkpoint in the middle of an epoch."""
    setting = Setting(updates=4, save_every=2, eval_every=2, dropout=0.2)
    whole_run, cut_run = str(tmp_path / "whole"), str(tmp_path / "cut")
    undisturbed = on_ranks(tmp_path / "ranks", lambda world: go(setting, world, folder=whole_run), parallel=parallel)
    on_ranks(tmp_path / "ranks", lambda world: go(setting, world, folder=cut_run, stop=3), parallel=parallel)
    resumed = on_ranks(tmp_path / "ranks", lambda world: go(setting, world, folder=cut_run, resume=True), parallel=parallel)
    for one, other in zip(undisturbed, resumed, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        assert torch.equal(one.generator, other.generator)
    assert not torch.equal(resumed[0].generator, resumed[1].generator)
    assert resumed[0].metrics == undisturbed[0].metrics


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of one process, and runs of one and of two ranks that were cut after a checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    setting = Setting(objectives=("kto", "dpo"), updates=UPDATES, save_every=SAVED, eval_every=None)
    go(setting, SINGLE, folder=str(folder / "whole"))
    for size in (1, 2):
        on(folder / "ranks", size, lambda world, size=size: go(setting, world, folder=str(folder / f"of {size}"), stop=SAVED + 1))
    return folder


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_ranks(before: int, after: int, runs: Path, tmp_path: Path) -> None:
    """The weights and moments that are read are those that were written, bit for bit, and the end is the single process's within 1e-6."""
    setting = Setting(objectives=("kto", "dpo"), updates=UPDATES, save_every=SAVED, eval_every=None)
    path = latest_checkpoint(runs / f"of {before}" / "checkpoints")
    assert path is not None and path.name == f"update-{SAVED:06d}"

    def work(world: World) -> tuple[bool, Any]:
        policy = model(setting)
        spread(policy, world)
        optimizer, saved = build_optimizer(policy.module, OptimConfig()), Saved(path, fingerprint="one")
        put_weights(saved, policy.module)
        put_moments(saved, policy.module, optimizer)
        held = {"weights": learning(policy.module), "optimizer": moments(policy.module, optimizer)}
        equal = [torch.equal(whole(held[table][name]), saved.read(table, name)) for table in held for name in saved.names(table)]
        assert len(equal) == len(held["weights"]) + len(held["optimizer"]) == 4 * len(held["weights"])
        return all(equal), go(setting, world, folder=str(tmp_path / "run"), resume=True)

    shutil.copytree(runs / f"of {before}", tmp_path / "run")
    found = on(tmp_path / "ranks", after, work)
    undisturbed = Saved(runs / "whole" / "checkpoints" / f"update-{UPDATES:06d}").table("weights", {})
    for equal, left in found:
        assert equal
        assert left.sharded == (after > 1)
        assert difference(left.weights, undisturbed) < 1e-6


def test_a_write_that_fails_on_one_rank_fails_on_all_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    def work(world: World) -> str:
        policy = model(Setting())
        spread(policy, world)
        tables = {"weights": learning(policy.module)}
        save_checkpoint(tmp_path / "checkpoints", Progress(update=1), tables, fingerprint="one", world=world)
        if world.rank == 1:
            vars(checkpoint)["save_file"] = full
        with pytest.raises(RunError) as said:
            save_checkpoint(tmp_path / "checkpoints", Progress(update=2), tables, fingerprint="one", world=world)
        return str(said.value)

    found = on_ranks(tmp_path / "ranks", work, parallel="fsdp")
    assert all("No space left on device" in said for said in found)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-000001"]
    assert latest_checkpoint(tmp_path / "checkpoints") is not None


def full(*given: Any) -> None:
    raise OSError(28, "No space left on device")
