"""Layers that are computed again give equal gradients, dropout included; nothing but their inputs is kept; a copy computes its own weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from attune.core.errors import ConfigError
from attune.policies import activations
from attune.policies.activations import leave
from attune.policies.adapters import add_adapter
from attune.policies.causal import CausalPolicy, load
from tests import tiny

GROUPS = tiny.groups(3, 2)
ROWS = tiny.rows(GROUPS)


def policy(way: str, architecture: str = "llama", *, dropout: float = 0.0, lora: bool = False, layout: str = "shared") -> CausalPolicy:
    model = tiny.model(architecture, dtype=torch.float64, dropout=dropout)
    leave(model, way)
    if lora:
        torch.manual_seed(2)
        model = add_adapter(model, {"rank": 2, "dropout": dropout})
    return CausalPolicy(model, tiny.tokenizer(chat="chatml"), dropout=dropout > 0, layout=layout)


def gradient(made: CausalPolicy) -> torch.Tensor:
    torch.manual_seed(1)
    made.outputs(made.collate(GROUPS, ROWS), ("logp",))["logp"].sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in made.module.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("layout", ["shared", "plain"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_gradients_are_equal(architecture: str, layout: str) -> None:
    wanted = gradient(policy("keep", architecture, layout=layout))
    for way in ("recompute", "offload"):
        assert (gradient(policy(way, architecture, layout=layout)) - wanted).abs().max() <= 1e-12 * wanted.abs().max()


@pytest.mark.parametrize("lora", [False, True])
def test_dropout_drops_the_same_units_again(lora: bool) -> None:
    wanted = gradient(policy("keep", "gpt2", dropout=0.3, lora=lora))
    assert (gradient(policy("recompute", "gpt2", dropout=0.3, lora=lora)) - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    assert (wanted - gradient(policy("keep", "gpt2", lora=lora))).abs().max() > 1e-3 * wanted.abs().max()


def test_of_each_layer_its_input_alone_is_kept() -> None:
    """What the trunk keeps: for the layers one [1,L,H] each, for the last norm a few of that size; all of it without recomputation is far more."""

    def kept(way: str) -> int:
        made = policy(way)
        ids = torch.arange(60)[None]
        sizes: list[int] = []
        with saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor):
            made.model.model(input_ids=ids, use_cache=False)
        states = ids.numel() * 32
        return round(sum(sizes) / states)

    assert kept("recompute") <= 2 + 4
    assert kept("keep") > 20


def test_a_copy_computes_its_own_weights() -> None:
    made = policy("recompute")
    before = made.outputs(made.collate(GROUPS, ROWS), ("logp",))["logp"].detach()
    other = made.with_module(copy.deepcopy(made.module))
    with torch.no_grad():
        for parameter in made.module.parameters():
            parameter.add_(0.1)
    assert torch.equal(other.outputs(other.collate(GROUPS, ROWS), ("logp",))["logp"], before)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="allowed: keep, recompute, offload"):
        leave(tiny.model(), "forget")
    with pytest.raises(ConfigError, match="no layers"):
        leave(torch.nn.Linear(2, 2), "recompute")
    with pytest.raises(ConfigError, match=r"train\.activations: the model is on the CPU already"):
        load("nowhere", activations="offload")
    assert activations.WAYS == ("keep", "recompute", "offload")
