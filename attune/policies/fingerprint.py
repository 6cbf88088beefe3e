"""What decides a policy's numbers, as one hash: so that stored log-probabilities are only ever found again by the model that gave them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from attune.policies import adapters
from attune.policies.causal import CausalPolicy
from attune.policies.sharding import whole

_NO_NUMBERS = ("_name_or_path", "architectures", "transformers_version", "dtype", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id")
"""What a configuration says without any effect on log-probabilities; the type is hashed with each weight."""
_THREADS = 8
_AT_ONCE = 32
"""Weights copied from the device at a time."""


def fingerprint(policy: CausalPolicy, *, adapter: bool = True) -> str:
    """Returns a content hash of what decides a policy's numbers: weights and their types, how they are used, chat template, layout, precision.

    Quantised weights are hashed as they are held; sharded ones are gathered one by one, so that the hash is that of the whole model (a collective then).

    Args:
        policy: whose weights are read.
        adapter: whether its adapter counts; without it the hash is that of the model alone.
    """
    digest = hashlib.sha256(json.dumps(_said(policy, adapter=adapter), sort_keys=True, default=str).encode())
    weights = sorted(_named(policy.module.state_dict(), adapter=adapter))
    with ThreadPoolExecutor(_THREADS) as pool:  # hashlib works outside the interpreter's lock
        for start in range(0, len(weights), _AT_ONCE):
            for one in pool.map(_digest, [(name, _plain(tensor)) for name, tensor in weights[start : start + _AT_ONCE]]):
                digest.update(one)
    return digest.hexdigest()


def _said(policy: CausalPolicy, *, adapter: bool) -> dict[str, Any]:
    """Returns what decides the numbers beside the weights."""
    config = {name: value for name, value in policy.model.config.to_dict().items() if name not in _NO_NUMBERS}
    scaling = {name: part.scaling for name, part in policy.module.named_modules() if adapter and isinstance(getattr(part, "scaling", None), Mapping)}
    return {
        "config": config,
        "scaling": {_bare(name): dict(factors) for name, factors in scaling.items()},
        "template": [policy.tokenizer.chat_template, policy.template.chat],
        "layout": policy.layout_used,
        "compute": policy.compute,
        "products": torch.get_float32_matmul_precision(),
    }


def _named(weights: dict[str, Tensor], *, adapter: bool) -> list[tuple[str, Tensor]]:
    """Returns the weights under the names they have without peft around the model."""
    return [(_bare(name), tensor) for name, tensor in weights.items() if adapter or not adapters.is_adapter_name(name)]


def _bare(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", ".")


def _plain(tensor: Tensor) -> list[Tensor]:
    """Returns what a weight consists of, on the CPU: itself, the whole of a sharded one, the parts of a packed one."""
    tensor = whole(tensor.detach())
    flatten = getattr(tensor, "__tensor_flatten__", None)  # of a packed type: a tensor that is made of others
    if flatten is None:
        return [tensor.cpu().contiguous()]
    return [part for name in flatten()[0] for part in _plain(getattr(tensor, name))]


def _digest(weight: tuple[str, list[Tensor]]) -> bytes:
    name, parts = weight
    digest = hashlib.sha256(name.encode())
    for part, data in zip(parts, _bytes(parts), strict=True):
        digest.update(f"|{part.dtype}|{tuple(part.shape)}|".encode())
        digest.update(data)
    return digest.digest()


def _bytes(parts: list[Tensor]) -> Iterator[memoryview]:
    for part in parts:
        yield part.view(-1).view(torch.uint8).numpy().data
