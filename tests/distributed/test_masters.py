"""Weights of 16 bits, sharded: each rank holds its rows of the masters, and gradients of several passes still add up in float32."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from attune.policies.sharding import shard, whole
from attune.training.adamw import AdamW
from attune.training.distributed import World
from tests.distributed.ranks import on_ranks


def test_two_ranks_step_the_masters_of_one_process(tmp_path: Path) -> None:
    """Both ranks compute the same rows, half of them each: sums over ranks of exact halves are exact, and so are the steps, to rounding."""

    def work(world: World) -> tuple[list[Tensor], list[Tensor], bool]:
        torch.manual_seed(0)
        alone = torch.nn.Sequential(torch.nn.Linear(8, 6, bias=False), torch.nn.Linear(6, 4, bias=False)).bfloat16()
        sharded = copy.deepcopy(alone)
        shard(sharded, ["Linear"])
        optimizers = [AdamW([{"params": list(one.parameters()), "weight_decay": 0.1}], lr=1e-2, betas=(0.9, 0.99), eps=1e-8) for one in (alone, sharded)]
        for update in range(3):
            for passed in range(4):
                rows = torch.randn(2, 8, generator=torch.Generator().manual_seed(10 * update + passed)).bfloat16()
                alone(rows).sum().backward()
                (sharded(rows).sum() / 2).backward()
            for optimizer in optimizers:
                assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in optimizer.learning())
                torch.nn.utils.clip_grad_norm_(optimizer.learning(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        masters = [
            [whole(optimizer.state[parameter]["master"]) for parameter in module.parameters()]
            for module, optimizer in zip((alone, sharded), optimizers, strict=True)
        ]
        return masters[0], masters[1], all(isinstance(state["master"], DTensor) for state in optimizers[1].state.values())

    for alone, sharded, parts in on_ranks(tmp_path, work, parallel="fsdp"):
        assert parts
        assert all((one - other).abs().max() < 1e-6 for one, other in zip(alone, sharded, strict=True))
