"""AdamW and the learning rate as a function of the update."""

from __future__ import annotations

import math

import torch

from attune.config.recipe import OptimConfig


def build_optimizer(module: torch.nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Returns AdamW over the parameters that learn; matrices decay, vectors (norms, biases) do not."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps)


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
