"""The loop: it learns what it should, stops when it should, and goes on exactly where it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.errors import ConfigError, RunError
from attune.runs.directory import RunDirectory
from attune.training import checkpoint
from attune.training.checkpoint import best_checkpoint, latest_checkpoint
from attune.training.engine import train
from attune.training.stopwatch import TIMED
from tests import tiny
from tests.training.helpers import dropping, items, learner

OPTIM = OptimConfig(lr=1e-3, warmup=0.0, schedule="constant")


def weights(policy: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.module.parameters()])


def metrics(run: RunDirectory) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMED} for line in run.lines("metrics.jsonl")]


def test_dpo_raises_the_margin_of_what_it_trains_on() -> None:
    policy = tiny.policy()
    outcome = train(learner(policy, ["dpo"]), items(6), items(6), optim=OPTIM, loop=TrainConfig(updates=8, groups_per_update=6))
    assert outcome.after["margin"] > outcome.before["margin"] + 1
    assert outcome.after["loss"] < outcome.before["loss"]
    assert outcome.updates == 8


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("names", [("dpo",), ("kto", "sft")])
def test_a_resumed_run_is_the_undisturbed_one_to_the_last_bit(tmp_path: Path, names: tuple[str, ...], dropout: bool) -> None:
    """Ten updates against six, a new process's worth of objects, and four more: weights, metrics and generator state."""

    def go(run: RunDirectory, updates: int, resume: bool) -> torch.Tensor:
        policy = dropping(rate=0.2 if dropout else 0.0)
        loop = TrainConfig(updates=10, groups_per_update=3, save_every=2, eval_every=4, dropout=dropout)
        made = learner(policy, names, tokens_per_pass=100)
        if updates < 10:
            with pytest.raises(KeyboardInterrupt):
                train(made, items(7), items(3, seed=9), optim=OPTIM, loop=loop, seed=5, run=run, on_update=stop_at(updates))
        else:
            train(made, items(7), items(3, seed=9), optim=OPTIM, loop=loop, seed=5, run=run, resume=resume)
        return torch.cat([weights(policy), torch.get_rng_state().float()])

    whole = RunDirectory(tmp_path / "whole")
    undisturbed = go(whole, 10, False)
    broken = RunDirectory(tmp_path / "broken")
    go(broken, 7, False)
    torch.manual_seed(999)
    assert torch.equal(go(broken, 10, True), undisturbed)
    assert metrics(broken) == metrics(whole)


def stop_at(update: int) -> Any:
    def stop(done: int, total: int, numbers: Any) -> None:
        if done == update:
            raise KeyboardInterrupt

    return stop


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    """With a rate so large that every update hurts, the weights after the first evaluation must come back."""
    policy = tiny.policy()
    loop = TrainConfig(updates=30, groups_per_update=4, eval_every=1, patience=2)
    run = RunDirectory(tmp_path)
    outcome = train(learner(policy, ["sft"]), items(4), items(4, seed=3), optim=OptimConfig(lr=0.3, warmup=0.0, schedule="constant"), loop=loop, run=run)
    losses = [line["loss"] for line in run.lines("metrics.jsonl") if line["split"] == "eval"]
    assert outcome.stopped_early
    assert outcome.updates < 30
    assert outcome.after["loss"] == pytest.approx(min(losses[1:]), rel=1e-6)


def test_the_best_weights_are_there_whenever_a_run_is_cut(tmp_path: Path) -> None:
    """At every update: the newest checkpoint's own best weights exist, and a run resumed from it ends as the undisturbed one."""
    loop = TrainConfig(updates=12, groups_per_update=4, eval_every=1, save_every=2, patience=2, keep_last=1)
    optim = OptimConfig(lr=2e-2, warmup=0.0, schedule="constant")

    def go(run: RunDirectory, stop: int, *, resume: bool = False) -> tuple[torch.Tensor, int]:
        policy = tiny.policy()
        made, batch, held_out = learner(policy, ["sft"]), items(4), items(4, seed=3)
        try:
            done = train(made, batch, held_out, optim=optim, loop=loop, run=run, resume=resume, on_update=stop_at(stop)).updates
        except KeyboardInterrupt:
            done = stop
        return weights(policy), done

    whole, updates = go(RunDirectory(tmp_path / "whole"), 99)
    assert 3 <= updates < 12, "the case is only a case where training stops early"
    for cut in range(2, updates):
        run = RunDirectory(tmp_path / f"cut{cut}")
        go(run, cut)
        newest = latest_checkpoint(run.checkpoints)
        assert newest is not None
        best = json.loads((newest / "state.json").read_text())["best_update"]
        assert best_checkpoint(run.checkpoints, best).is_dir()
        assert torch.equal(go(run, 99, resume=True)[0], whole)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    loop = TrainConfig(updates=2, groups_per_update=2, save_every=1)
    run = RunDirectory(tmp_path)
    train(learner(tiny.policy(), ["dpo"]), items(2), optim=OPTIM, loop=loop, run=run, fingerprint="one")
    with pytest.raises(RunError, match="another recipe"):
        train(learner(tiny.policy(), ["dpo"]), items(2), optim=OPTIM, loop=loop, run=run, resume=True, fingerprint="other")


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    loop = TrainConfig(updates=4, groups_per_update=2, save_every=1, keep_last=3)
    run = RunDirectory(tmp_path)
    train(learner(tiny.policy(), ["dpo"]), items(2), optim=OPTIM, loop=loop, run=run)
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["update-000002", "update-000003", "update-000004"]
    newest = run.checkpoints / "update-000004" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    found = latest_checkpoint(run.checkpoints)
    assert found is not None
    assert found.name == "update-000003"
    (run.checkpoints / "update-000003" / "state.json").write_text("{")
    assert latest_checkpoint(run.checkpoints) == run.checkpoints / "update-000002"


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    policy = tiny.policy()
    made = learner(policy, ["dpo"])
    hook = next(policy.module.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    before = weights(policy)
    with pytest.raises(RunError, match="gradient"):
        train(made, items(2), optim=OPTIM, loop=TrainConfig(updates=3, groups_per_update=2))
    hook.remove()
    assert torch.equal(weights(policy), before)


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(ConfigError, match="nothing is left"):
        train(learner(tiny.policy(), ["dpo"]), [], optim=OPTIM, loop=TrainConfig())


def test_every_update_logs_what_was_promised(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    train(learner(tiny.policy(), ["dpo"]), items(4), items(2), optim=OPTIM, loop=TrainConfig(updates=3, groups_per_update=2), run=run)
    lines = list(run.lines("metrics.jsonl"))
    assert [(line["update"], line["split"]) for line in lines] == [(0, "eval"), (1, "train"), (2, "train"), (3, "train"), (3, "eval")]
    wanted = {"loss", "loss/dpo", "margin", "accuracy", "chosen_logp", "rejected_logp", "kl_to_ref", "length", "chosen_length", "rejected_length"}
    assert wanted | {"supervised_tokens", "grad_norm", "lr", *TIMED} <= lines[1].keys()
    assert all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    assert json.dumps(lines[1])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space left")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    run = RunDirectory(tmp_path)
    write, calls = checkpoint.save_file, []

    def full(*given: Any) -> None:
        calls.append(1)
        if len(calls) > 4:  # three files make the first checkpoint
            raise error
        write(*given)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunError, match=r"(no|No) space left"):
        train(learner(tiny.policy(), ["dpo"]), items(2), optim=OPTIM, loop=TrainConfig(updates=4, groups_per_update=2, save_every=1), run=run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["update-000001"]
    assert latest_checkpoint(run.checkpoints) == run.checkpoints / "update-000001"
