"""What ranks exchange: sums, decisions, errors, and gradients that autograd has not seen or that a rank does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attune.core.errors import ConfigError, RunError
from attune.training import distributed
from attune.training.distributed import SINGLE, World, join, spread
from tests import tiny
from tests.distributed.ranks import on_ranks


def test_shares_are_disjoint_cover_all_and_differ_by_one_item_at_most() -> None:
    world = World()
    shares = []
    for world.rank, world.size in ((0, 3), (1, 3), (2, 3)):
        shares.append(world.share(7))
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [len(share) for share in shares] == [3, 2, 2]
    assert SINGLE.share(2) == [0, 1]


def test_ranks_agree(tmp_path: Path) -> None:
    def work(world: World) -> dict[str, Any]:
        found: dict[str, Any] = {"total": world.total({"rows": 0.1 * (world.rank + 1), "pairs": 2.0})}
        found["merged"] = world.merged({"loss": (1.0, 2.0 + world.rank)} | ({"only": (5.0, 1.0)} if world.rank else {}))
        found["most"], found["told"] = world.most(3 - world.rank), world.told(f"rank {world.rank}")
        found["gathered"] = [one["a"][0].tolist() for one in world.gathered({"a": [torch.full((2,), float(world.rank), requires_grad=True)]})]
        world.check_equal("the same", "files")
        with pytest.raises(RunError, match="files differ between ranks"):
            world.check_equal(world.rank, "files")
        with pytest.raises((ConfigError, RunError), match="mine alone"):
            fail_alone(world)
        with world.together():
            return found

    first, second = on_ranks(tmp_path, work)
    assert first == second
    assert first["total"] == {"rows": 0.1 + 0.2, "pairs": 4.0}
    assert first["merged"] == {"loss": (2.0, 5.0), "only": (5.0, 1.0)}
    assert (first["most"], first["told"], first["gathered"]) == (3, "rank 0", [[0.0, 0.0], [1.0, 1.0]])


def fail_alone(world: World) -> None:
    with world.together():
        if world.rank == 1:
            raise ConfigError("mine alone")


def test_gradients_are_summed_once_whoever_wrote_them(tmp_path: Path) -> None:
    """Through autograd and past it, on one rank or on both, in float32 for 16-bit weights; where nobody has one there is none."""

    def work(world: World) -> list[Any]:
        kinds = (torch.float32, torch.float32, torch.float32, torch.float64, torch.bfloat16)
        both, one, none, wide, narrow = (torch.nn.Parameter(torch.ones(3, 2, dtype=kind)) for kind in kinds)
        (both.sum() * (world.rank + 1)).backward()
        if world.rank == 1:
            one.grad = torch.full((3, 2), 4.0)
        wide.grad = torch.full((3, 2), 1e-12 if world.rank else 1.0, dtype=torch.float64)
        narrow.grad_dtype = torch.float32
        narrow.grad = torch.full((3, 2), 2**-12 if world.rank else 1.0)
        vars(distributed)["BUCKET"] = 7  # more than one bucket of a kind
        world.sum_gradients([both, one, none, wide, narrow])
        return [None if tensor.grad is None else (tensor.grad.dtype, tensor.grad.flatten().unique().tolist()) for tensor in (both, one, none, wide, narrow)]

    first, second = on_ranks(tmp_path, work)
    assert first == second
    f32, f64 = torch.float32, torch.float64
    assert first == [(f32, [3.0]), (f32, [4.0]), None, (f64, [1.0 + 1e-12]), (f32, [1.0 + 2**-12])]


def test_ranks_that_loaded_different_weights_do_not_begin(tmp_path: Path) -> None:
    def work(world: World) -> bool:
        with pytest.raises(RunError, match="the models that were loaded differ between ranks"):
            spread(tiny.policy("gpt2", seed=world.rank), world)
        return True

    assert on_ranks(tmp_path, work) == [True, True]


def test_without_torchrun_a_process_is_alone_and_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_STEP_NUM_TASKS", "WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert join("fsdp") is SINGLE
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(RunError, match=r"SLURM_STEP_NUM_TASKS.*one torchrun a machine"):
        join()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match=r"RANK.*start with torchrun"):
        join()
