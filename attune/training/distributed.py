"""Several processes, one training: who computes what, and how sums, gradients, errors and decisions become the same on all of them.

torchrun starts the processes; each is a rank 0..n-1. Two ways to hold the weights:

- data parallel: every rank holds all of them; gradients are added up once an update.
- sharded (FSDP2, `fully_shard`): every rank holds a part of each weight, of its gradient and of its moments; a layer is gathered for
  as long as it computes, and its gradient is added up and scattered in each backward pass. Then every pass is a collective, and ranks
  with fewer passes run empty ones.

Neither averages: gradients are SUMS over ranks, since only the engine divides, by counts that are totalled over ranks first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from attune.core.errors import AttuneError, ConfigError, RunError
from attune.policies.causal import CausalPolicy
from attune.policies.fingerprint import fingerprint
from attune.policies.sharding import shard

BUCKET = 1 << 24
"""Numbers of a gradient that are added up over ranks at a time: 64 MiB in float32."""
PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: rank 0 may write a large model, or sample from it, in the meantime."""


class World:
    """One process: the world of `SINGLE`, in which nothing needs to be exchanged. `Ranks` is the world of several."""

    rank = 0
    size = 1
    sharded = False
    # whether weights are sharded over ranks, so that every pass is a collective

    @property
    def main(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    def share(self, num: int) -> list[int]:
        """Returns which of the `num` items of an update this rank computes: every size-th one, so that shares differ by one item at most."""
        return list(range(self.rank, num, self.size))

    def gathered(self, value: Any) -> list[Any]:
        """Returns the value of every rank, in rank order; tensors in it arrive detached and on the CPU.

        Every method below is a collective as this one is: all ranks call it, in the same order.
        """
        return [value]

    def sum_gradients(self, tensors: Iterable[Tensor]) -> None:
        """Puts the sum over ranks into .grad; the engine calls it once an update, before it clips and steps.

        Where no rank has a gradient there is none afterwards. A sharded world does nothing: its gradients were added up while they were computed.

        Args:
            tensors: those that the optimiser takes gradients from, the same ones in the same order on all ranks, with a gradient or without.
        """

    def total(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Returns the sum of each count over ranks, in float64 and in rank order, equal on all ranks."""
        found = self.gathered(dict(counts))
        return {name: sum(one[name] for one in found) for name in counts}

    def merged(self, sums: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Returns the statistics of all ranks added up, equal on all ranks; a statistic that only some ranks have keeps their sum."""
        whole: dict[str, tuple[float, float]] = {}
        for part in self.gathered(dict(sums)):
            for name, (total, count) in part.items():
                before = whole.get(name, (0.0, 0.0))
                whole[name] = (before[0] + total, before[1] + count)
        return whole

    def most(self, number: int) -> int:
        """Returns the largest number over ranks."""
        return int(max(self.gathered(number)))

    def told(self, value: Any) -> Any:
        """Returns what rank 0 says: for decisions that depend on what lies on the disk."""
        return self.gathered(value if self.main else None)[0]

    def check_equal(self, value: Any, what: str) -> None:
        """Raises RunError on all ranks where they do not all have the same value."""
        found = self.gathered(value)
        if any(other != found[0] for other in found):
            raise RunError(f"{what} differ between ranks", value=found, mend="give every process the same files, seed and versions")

    def agree(self, error: Exception | None) -> None:
        """Goes on if no rank has an error; otherwise all ranks stop: one with an error raises it, the others raise RunError with the first one's words."""
        said = self.gathered(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, one in enumerate(said):
            if one is not None:
                raise RunError(f"{one} (said by rank {rank})")

    @contextmanager
    def together(self) -> Iterator[None]:
        """What a user or the system did wrong inside the block on any rank stops all of them at its end: nobody waits for one that is gone.

        The block itself holds no collective.
        """
        error: Exception | None = None
        try:
            yield
        except (AttuneError, OSError) as failed:
            error = failed
        self.agree(error)


class Ranks(World):
    """Several processes over torch.distributed, as torchrun started them.

    Args:
        sharded: whether weights are sharded over them.
    """

    def __init__(self, *, sharded: bool) -> None:
        self.rank, self.size, self.sharded = dist.get_rank(), dist.get_world_size(), sharded

    def gathered(self, value: Any) -> list[Any]:
        """See World."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, _on_cpu(value))
        return found

    def sum_gradients(self, tensors: Iterable[Tensor]) -> None:
        """See World."""
        if self.sharded:
            return
        for bucket in _buckets(list(tensors)):
            _sum_bucket(bucket)


SINGLE = World()
"""The world of a single process."""


def join(parallel: str = "data") -> World:
    """Joins the processes that torchrun started, over nccl where there are GPUs and gloo elsewhere; without torchrun, returns SINGLE.

    Args:
        parallel: "data", or "fsdp" to shard the weights; one process has nothing to shard.

    Raises:
        RunError: torchrun's environment is not whole, a process has no GPU of its own, or srun started several processes without torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
        if tasks > 1 and "WORLD_SIZE" not in os.environ:
            mend = "let srun start one torchrun a machine: docs/howto/launch.md"
            raise RunError("several processes that do not know of each other", field="SLURM_STEP_NUM_TASKS", value=tasks, mend=mend)
        return SINGLE
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise RunError("WORLD_SIZE is set, and the rest of torchrun's environment is not", field=", ".join(missing), mend="start with torchrun")
    if not dist.is_initialized():
        local = int(os.environ["LOCAL_RANK"])
        if torch.cuda.is_available():
            if local >= torch.cuda.device_count():
                raise RunError("a process without a GPU of its own", field="LOCAL_RANK", value=local, allowed=f"below {torch.cuda.device_count()}")
            torch.cuda.set_device(local)
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    return Ranks(sharded=parallel == "fsdp")


def spread(policy: CausalPolicy, world: World) -> None:
    """Makes a freshly loaded policy ready for its world: equal on all ranks, and its weights sharded where they are to be.

    Raises:
        RunError: the ranks loaded different weights, templates or layouts. ConfigError: weights that cannot be sharded.
    """
    if world.size == 1:
        return
    world.check_equal(fingerprint(policy), "the models that were loaded")
    if world.sharded:
        if not all(parameter.is_floating_point() for parameter in policy.module.parameters()):
            mend = "train with train.parallel=data, or without model.quantize"
            raise ConfigError("quantised weights are not sharded", field="train.parallel", value="fsdp", allowed="data", mend=mend)
        shard(policy.module, policy.model._no_split_modules or ())


def leave() -> None:
    """Ends what `join` began; without it torch complains at exit."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _on_cpu(value: Any) -> Any:
    """Returns the value with every tensor in its mappings, lists and tuples detached and on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_on_cpu(one) for one in value])
    return value


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields tensors of one type and device together, at most BUCKET numbers at a time; equal on all ranks whatever gradients they have."""
    for kind in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
        bucket: list[Tensor] = []
        for tensor in tensors:
            if (tensor.dtype, tensor.device) != kind:
                continue
            if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def _sum_bucket(bucket: Sequence[Tensor]) -> None:
    """Adds up the gradients of a bucket over ranks, in float32 or wider; a number behind them for each counts the ranks that have one."""
    sizes = [tensor.numel() for tensor in bucket]
    flat = torch.zeros(sum(sizes) + len(bucket), dtype=torch.promote_types(bucket[0].dtype, torch.float32), device=bucket[0].device)
    *pieces, have = flat.split([*sizes, len(bucket)])
    for place, (tensor, piece) in enumerate(zip(bucket, pieces, strict=True)):
        if tensor.grad is not None:
            piece.copy_(tensor.grad.reshape(-1))
            have[place] = 1
    dist.all_reduce(flat)
    for tensor, piece, ranks in zip(bucket, pieces, have.tolist(), strict=True):
        if tensor.grad is not None:
            tensor.grad.copy_(piece.view_as(tensor))
        elif ranks:
            tensor.grad = piece.view_as(tensor).to(tensor.grad_dtype, copy=True)
