"""The schedule by hand, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch

from attune.config.recipe import OptimConfig
from attune.core.errors import ConfigError
from attune.training import optim
from attune.training.optim import build_optimizer, learning_rate


def rate(update: int, **fields: float | str) -> float:
    return learning_rate(update, 10, OptimConfig.model_validate({"lr": 1.0, "warmup": 0.2, **fields}))


def test_warm_up_rises_to_the_highest_rate() -> None:
    assert [rate(0), rate(1), rate(2)] == [0.5, 1.0, 1.0]


def test_cosine_by_hand() -> None:
    assert rate(6) == pytest.approx((1 + math.cos(math.pi * 4 / 8)) / 2)
    assert rate(9, floor=0.1) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 7 / 8)) / 2)


def test_linear_and_constant_by_hand() -> None:
    assert rate(6, schedule="linear") == pytest.approx(0.5)
    assert rate(9, schedule="constant") == 1.0


def test_vectors_do_not_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    groups = build_optimizer(module, OptimConfig(weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


def test_what_cannot_be_done_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=r"optim\.offload: the weights are on the CPU already"):
        build_optimizer(module, OptimConfig(offload=True))
    with pytest.raises(ConfigError, match=r"optim\.name: weights of 64 bits .* allowed: adamw"):
        build_optimizer(torch.nn.Linear(3, 2).double(), OptimConfig(name="adamw8bit"))
    monkeypatch.setattr(optim, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"optim\.name: bitsandbytes is not installed .*attune\[quant\]"):
        build_optimizer(module, OptimConfig(name="adamw8bit"))


def test_only_what_learns_is_stepped() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2).requires_grad_(False))
    optimizer = build_optimizer(module, OptimConfig())
    assert [tensor.shape for tensor in optimizer.learning()] == [(2, 3), (2,)]
