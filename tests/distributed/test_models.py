"""What is sharded: policy and critic side by side, heads tied to the embedding or not, logits of the model's own, and the model that is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from attune.config.recipe import OptimConfig
from attune.policies.causal import CausalPolicy
from attune.policies.heads import LogitsHead
from attune.policies.sharding import whole
from attune.training.distributed import SINGLE, World, spread
from attune.training.optim import build_optimizer
from attune.training.update import Learner
from tests import tiny
from tests.distributed.ranks import on_ranks
from tests.distributed.setting import difference
from tests.training.helpers import Noise, items, objective


def test_policy_and_critic_are_trained_side_by_side(tmp_path: Path) -> None:
    """Two sharded models with an optimiser each, a step of both in every update: the weights of both are the single process's."""

    def work(world: World) -> tuple[dict[str, Tensor], bool]:
        policy, critic = tiny.policy("gpt2", dtype=torch.float64), tiny.policy("gpt2", dtype=torch.float64, head="scalar", seed=1)
        pairs = [(policy, "dpo", {"ref_logp": Noise()}), (critic, "bradley_terry", {})]
        learners, optimizers = [], []
        for model, name, frozen in pairs:
            spread(model, world)
            learners.append(Learner(model, [objective(name)], frozen=frozen, tokens_per_pass=140, world=world))
            optimizers.append(build_optimizer(model.module, OptimConfig(lr=1e-3)))
        batch = items(5)
        for update in range(3):
            for learner in learners:
                learner.backward(batch[update:])
            for optimizer in optimizers:
                world.sum_gradients(optimizer.learning())
                optimizer.step()
                optimizer.zero_grad()
        named = {f"{which}.{name}": one for which, model in enumerate((policy, critic)) for name, one in model.module.named_parameters()}
        return {name: whole(one.detach()) for name, one in named.items()}, all(isinstance(one, DTensor) for one in named.values())

    wanted, _ = work(SINGLE)
    for parallel in ("data", "fsdp"):
        for weights, sharded in on_ranks(tmp_path, work, parallel=parallel):
            assert sharded == (parallel == "fsdp")
            assert difference(weights, wanted) < 1e-6


def untied() -> CausalPolicy:
    return tiny.policy("llama", dtype=torch.float64)


def own_logits() -> CausalPolicy:
    policy = tiny.policy("gpt2", dtype=torch.float64)
    policy.head = LogitsHead()
    return policy


def capped() -> CausalPolicy:
    return tiny.policy("gemma2", dtype=torch.float64)


@pytest.mark.parametrize("make", [untied, own_logits, capped])
def test_gradients_of_a_sharded_model_are_those_of_the_whole_one(make: Any, tmp_path: Path) -> None:
    """Summed over ranks and never divided, each rank with groups of its own; in models that compute parts in float32 they agree to that."""

    def work(world: World) -> dict[str, Tensor]:
        policy = make()
        spread(policy, world)
        Learner(policy, [objective("dpo")], frozen={"ref_logp": Noise()}, world=world).backward(items(3))
        return {name: whole(one.grad) for name, one in policy.module.named_parameters() if one.grad is not None}

    wanted = work(SINGLE)
    for found in on_ranks(tmp_path, work, parallel="fsdp"):
        assert difference(found, wanted) < (1e-9 if make is own_logits else 1e-4)
