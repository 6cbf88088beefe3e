"""What a model's layers leave for the backward pass: everything, their inputs alone, or their inputs in the CPU's memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from attune.core.errors import ConfigError

WAYS = ("keep", "recompute", "offload")


def leave(model: Any, way: str) -> None:
    """Makes every decoder layer of a model of transformers compute itself again in the backward pass, from its input; gradients are equal.

    transformers' own switch works only while the whole model is in training mode, in which its dropout acts; here dropout is off unless asked for.
    Random numbers that a layer draws are drawn again, the same.

    Args:
        model: whose layers are changed, in place.
        way: "keep" changes nothing; "recompute" keeps the inputs where they are; "offload" keeps them on the CPU.

    Raises:
        ConfigError: there is no such way, or the model has no layers of the kind.
    """
    if way not in WAYS:
        raise ConfigError("no such way with activations", field="activations", value=way, allowed=", ".join(WAYS))
    if way == "keep":
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError("the model has no layers that can be computed again", field="activations", value=way, allowed="keep")
    for layer in layers:
        layer.forward = partial(_again, layer.forward, offload=way == "offload")


def _again(forward: Callable[..., Any], *args: Any, offload: bool, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    with save_on_cpu(pin_memory=torch.cuda.is_available()) if offload else nullcontext():
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
