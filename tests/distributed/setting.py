"""One small training in many settings: the same on one process as on several, and what it left behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from attune.config.recipe import OptimConfig, TrainConfig
from attune.policies.adapters import add_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.moving import MovingReference
from attune.policies.references import adapter_off
from attune.policies.sharding import whole
from attune.runs.directory import RunDirectory
from attune.training.distributed import World, spread
from attune.training.engine import train
from attune.training.stopwatch import TIMED
from attune.training.update import Learner
from tests import tiny
from tests.training.helpers import Noise, items, objective

STEP = 1e-3
"""What one update moves a weight by: the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained; GPT-2 in float64, whose every layer computes in the type of its weights."""

    objectives: tuple[str, ...] = ("dpo",)
    lora: bool = False
    reference: str = "noise"
    # or "moving", or "adapter_off"
    updates: int = 20
    per_update: int = 5
    # groups, an odd number: ranks get shares of different sizes
    tokens_per_pass: int | None = 140
    # two groups or so
    save_every: int | None = None
    eval_every: int | None = None
    # updates; None: at the start and the end
    dropout: float = 0.0


@dataclass(frozen=True)
class Left:
    """What a training left behind, whole on every rank."""

    weights: dict[str, Tensor]
    metrics: list[dict[str, Any]]
    # of rank 0, less what is timed
    sharded: bool
    # whether every parameter was a DTensor
    generator: Tensor
    # where this rank's stands


class Cut(Exception):
    """Stops a training in its middle."""


def model(setting: Setting) -> CausalPolicy:
    """Returns the policy at its start."""
    made = tiny.model("gpt2", dtype=torch.float64, dropout=setting.dropout)
    if setting.lora:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            made = add_adapter(made, {"rank": 2}).to(torch.float64)
            for name, parameter in made.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.05)
    return CausalPolicy(made, tiny.tokenizer(chat="chatml"), dropout=bool(setting.dropout))


def learner(setting: Setting, policy: CausalPolicy, world: World) -> Learner:
    """Returns the learner of a setting."""
    sources = {"noise": lambda: Noise(), "moving": lambda: MovingReference(policy, alpha=0.5, every=2), "adapter_off": lambda: adapter_off(policy)}
    objectives = [objective(name) for name in setting.objectives]
    return Learner(policy, objectives, frozen={"ref_logp": sources[setting.reference]()}, tokens_per_pass=setting.tokens_per_pass, world=world)


def go(setting: Setting, world: World, *, folder: str | None = None, resume: bool = False, stop: int | None = None) -> Left:
    """Trains a setting.

    Args:
        setting: what.
        world: whose ranks all call this.
        folder: of the run; None: nothing is kept.
        resume: go on from the newest checkpoint.
        stop: updates after which it is cut short.
    """
    policy = model(setting)
    spread(policy, world)
    run = None if folder is None else RunDirectory(folder, writes=world.main)
    updates, per_update, save_every, eval_every = setting.updates, setting.per_update, setting.save_every, setting.eval_every
    loop = TrainConfig(updates=updates, groups_per_update=per_update, eval_every=eval_every, save_every=save_every, dropout=bool(setting.dropout))
    made = learner(setting, policy, world)

    def on_update(done: int, total: int, metrics: Any) -> None:
        if done == stop:
            raise Cut

    with suppress(Cut):
        train(made, items(7), items(3, seed=9), optim=OptimConfig(lr=STEP), loop=loop, seed=5, run=run, resume=resume, fingerprint="one", on_update=on_update)
    lines = [] if run is None or not world.main else list(run.lines("metrics.jsonl"))
    named = dict(policy.module.named_parameters())
    return Left(
        {name: whole(parameter.detach()).clone() for name, parameter in named.items()},
        [{key: value for key, value in line.items() if key not in TIMED} for line in lines],
        all(isinstance(parameter, DTensor) for parameter in named.values()),
        torch.get_rng_state(),
    )


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Returns the largest difference of a number, relative to the largest of its tensor, or to STEP where that is larger.

    A weight whose gradient is 0 but for rounding (a bias that every score has in common) stays where it was, 0, but for rounding.
    """
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / other[name].abs().max().clamp(min=STEP)) for name in other)
