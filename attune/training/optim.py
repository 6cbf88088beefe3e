"""The optimiser of a recipe, and the learning rate as a function of the update."""

from __future__ import annotations

import math
from importlib.util import find_spec

import torch

from attune.config.recipe import OptimConfig
from attune.core.errors import ConfigError
from attune.training.adamw import AdamW

_BITS = {"adamw": 32, "adamw8bit": 8}


def build_optimizer(module: torch.nn.Module, config: OptimConfig) -> AdamW:
    """Returns AdamW over the parameters that learn; matrices decay, vectors (norms, biases) do not.

    Raises:
        ConfigError: 8-bit moments without bitsandbytes, or of weights that it does not take; offload where there is no GPU or weights are sharded.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    _check(learning, config)
    check_means(config)
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, bits=_BITS[config.name], offload=config.offload)


def check_means(config: OptimConfig) -> None:
    """Raises ConfigError where this machine lacks what the optimiser needs: a package, or a GPU to offload from."""
    if config.name == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise ConfigError("bitsandbytes is not installed", field="optim.name", value=config.name, mend="pip install 'attune[quant]'")
    if config.offload and not torch.cuda.is_available():
        raise ConfigError("the weights are on the CPU already", field="optim.offload", value=True, mend="it is for a model on a GPU")


def _check(learning: list[torch.nn.Parameter], config: OptimConfig) -> None:
    sharded = any(hasattr(parameter, "device_mesh") for parameter in learning)
    if config.offload and sharded:
        raise ConfigError("the weights are sharded, and so is the optimiser's state", field="optim.offload", value=True, mend="use one of the two")
    if config.name == "adamw8bit":
        if sharded:
            raise ConfigError("8-bit moments of sharded weights are not made", field="optim.name", value=config.name, allowed="adamw")
        if any(parameter.dtype == torch.float64 for parameter in learning):
            raise ConfigError("weights of 64 bits have no 8-bit moments", field="optim.name", value=config.name, allowed="adamw")


def learning_rate(update: int, num_updates: int, config: OptimConfig) -> float:
    """Returns the learning rate of an update.

        warm-up:   lr (u+1) / w,                          u < w = round(warmup * U)
        cosine:    lr (f + (1-f) (1 + cos(pi s)) / 2),    s = (u-w) / (U-w)
        linear:    lr (f + (1-f) (1-s))

    Args:
        update: u, from 0.
        num_updates: U.
        config: lr, schedule, warmup (share of U) and floor f (share of lr).
    """
    warm = round(config.warmup * num_updates)
    if update < warm:
        return config.lr * (update + 1) / warm
    if config.schedule == "constant":
        return config.lr
    done = min(1.0, (update - warm) / max(1, num_updates - warm))
    share = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    return config.lr * (config.floor + (1 - config.floor) * share)
