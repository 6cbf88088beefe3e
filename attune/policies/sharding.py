"""A module whose weights are sharded over ranks by FSDP2: one entrance for its passes, and its weights put together again.

A layer's weights are gathered when it is called, wherever that happens; those outside of the layers (embeddings, norms, the head) only
when the module's own entrance is. A policy calls the base model and reads the head's weight itself, so both run inside one call of `within`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import MethodType
from typing import Any

import torch
from torch import Tensor

_ENTRANCE = "attune_within"


def shard(module: Any, layers: Collection[str]) -> None:
    """Shards a module over all ranks, in place; its parameters become DTensors, each rank holding some of their rows.

    Gradients are reduced to SUMS over ranks: whoever computes a loss divides by what was counted on all of them.

    Args:
        module: with the same weights on every rank, on the device where it computes.
        layers: class names of the parts that are gathered one at a time.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    parameters = list(module.parameters())
    narrow = any(one.requires_grad and one.dtype in (torch.bfloat16, torch.float16) for one in parameters)
    mesh = init_device_mesh(parameters[0].device.type, (get_world_size(),))
    precision = MixedPrecisionPolicy(reduce_dtype=torch.float32 if narrow else None)
    for part in module.modules():
        if type(part).__name__ in layers:
            fully_shard(part, mesh=mesh, mp_policy=precision)
    fully_shard(module, mesh=mesh, mp_policy=precision)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    setattr(module, _ENTRANCE, MethodType(_call, module))
    register_fsdp_forward_method(module, _ENTRANCE)


def is_sharded(module: Any) -> bool:
    """Returns whether `shard` was called on the module."""
    return hasattr(module, _ENTRANCE)


def within(module: Any, compute: Callable[..., Any], *args: Any) -> Any:
    """Returns compute(*args), called while the module's own weights are gathered; of a module that is not sharded, the plain call."""
    if not is_sharded(module):
        return compute(*args)
    found = getattr(module, _ENTRANCE)(compute, *args)
    if not torch.is_grad_enabled():
        module.reshard()  # no backward pass will, and weights that are put in place before the next pass would not be seen
    return found


def whole(tensor: Tensor) -> Tensor:
    """Returns a tensor in one piece; of a DTensor that is a collective."""
    put_together: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if put_together is None else put_together()


def _call(module: Any, compute: Callable[..., Any], *args: Any) -> Any:
    return compute(*args)
