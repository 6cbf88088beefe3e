"""Before the first step a policy equals its reference: every log-ratio is 0 and the DPO loss ln 2; and the reference stays where it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attune.core.batch import Batch, reduced
from attune.objectives.pairwise.dpo import dpo
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.packing import Packed
from attune.policies.references import Reference, adapter_as_loaded, adapter_off, cached, frozen_copy
from tests import tiny

GROUPS = tiny.groups(3, 2)
ROWS = tiny.rows(GROUPS)
LAYOUTS = ("plain", "grouped")


def adapted(layout: str, *, touched: bool) -> CausalPolicy:
    """A policy with an adapter: a new one, or one that was trained already."""
    policy = CausalPolicy(add_adapter(tiny.model("llama"), {"rank": 4}), tiny.tokenizer(chat="chatml"), layout=layout)
    if touched:
        move(adapter_parameters(policy.module).values())
    return policy


def move(parameters: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.add_(0.1 * torch.cos(torch.arange(parameter.numel(), dtype=parameter.dtype) + number).view_as(parameter))


def frozen(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = tiny.policy("llama", layout=layout)
    return policy, frozen_copy(policy)


def frozen_with_dropout(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = CausalPolicy(tiny.model("gpt2", dropout=0.1), tiny.tokenizer(chat="chatml"), layout=layout)
    return policy, frozen_copy(policy)


def remembered(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = tiny.policy("llama", layout=layout)
    reference = cached(frozen_copy(policy))
    reference.logp(policy.collate(GROUPS, ROWS))
    return policy, reference


def read_back(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = tiny.policy("llama", layout=layout)
    copy = frozen_copy(policy)
    writer = cached(copy, folder=folder)
    writer.logp(policy.collate(GROUPS, ROWS))
    writer.flush()
    return policy, cached(copy, folder=folder)


def off(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = adapted(layout, touched=False)
    return policy, adapter_off(policy)


def as_loaded(layout: str, folder: str) -> tuple[CausalPolicy, Reference]:
    policy = adapted(layout, touched=True)
    return policy, adapter_as_loaded(policy)


MODES: list[Callable[[str, str], tuple[CausalPolicy, Reference]]] = [frozen, frozen_with_dropout, remembered, read_back, off, as_loaded]


def batch(encoded: Packed, logp: Tensor, ref_logp: Tensor) -> Batch:
    pairs = torch.tensor([[0, 1], [3, 2], [4, 5]])
    return Batch(columns={"mask": encoded.mask, "logp": logp, "ref_logp": ref_logp, "pairs": pairs, "target": torch.ones(3)}, num_groups=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_log_ratio_is_zero_and_the_loss_is_ln_2(mode: Callable[[str, str], tuple[CausalPolicy, Reference]], layout: str, tmp_path: Path) -> None:
    policy, reference = mode(layout, str(tmp_path))
    assert policy.layout_used == layout
    encoded = policy.collate(GROUPS, ROWS)
    whole = batch(encoded, policy.outputs(encoded, ("logp",))["logp"], reference.logp(encoded))
    assert whole.total("logp").max() < -1
    assert (whole.get("logp") - whole.get("ref_logp")).abs().max() <= 1e-6
    assert whole.log_ratio().abs().max() <= 1e-6
    assert reduced(dpo(whole).terms[0], {"pairs": 3.0}).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_reference_stays_when_the_policy_moves(mode: Callable[[str, str], tuple[CausalPolicy, Reference]], tmp_path: Path) -> None:
    policy, reference = mode("grouped", str(tmp_path))
    encoded = policy.collate(GROUPS, ROWS)
    before = reference.logp(encoded)
    trained = [parameter for parameter in policy.module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    logp = policy.outputs(encoded, ("logp",))["logp"]
    reference.logp(encoded)  # between forward and backward, as a loop may do it
    batch(encoded, logp, before).margin(logp.sum(-1)).sum().backward()
    optimiser.step()
    assert all(parameter.requires_grad for parameter in trained)
    assert torch.equal(reference.logp(encoded), before)
    assert (policy.outputs(encoded, ("logp",))["logp"] - before).abs().max() > 1e-3


@pytest.mark.parametrize("mode", [off, as_loaded])
def test_gradients_do_not_see_the_reference(mode: Callable[[str, str], tuple[CausalPolicy, Reference]], tmp_path: Path) -> None:
    """A reference on the policy's own weights, used between forward and backward, changes no gradient."""
    policy, reference = mode("grouped", str(tmp_path))
    move(adapter_parameters(policy.module).values())
    encoded = policy.collate(GROUPS, ROWS)
    found = []
    for disturbed in (False, True):
        policy.module.zero_grad()
        logp = policy.outputs(encoded, ("logp",))["logp"]
        if disturbed:
            reference.logp(encoded)
        logp.sum().backward()
        found.append([parameter.grad.clone() for parameter in adapter_parameters(policy.module).values() if parameter.grad is not None])
    assert len(found[0]) == len(adapter_parameters(policy.module))
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_dropout_is_off_in_the_reference_and_on_again_in_the_policy() -> None:
    policy = CausalPolicy(tiny.model("gpt2", dropout=0.5), tiny.tokenizer(chat="chatml"), dropout=True)
    reference = frozen_copy(policy)
    encoded = policy.collate(GROUPS, ROWS)
    assert torch.equal(reference.logp(encoded), reference.logp(encoded))
    policy.module.eval()
    assert torch.equal(reference.logp(encoded), policy.outputs(encoded, ("logp",))["logp"])
    lora = CausalPolicy(add_adapter(tiny.model("gpt2", dropout=0.5), {"rank": 2}), tiny.tokenizer(chat="chatml"), dropout=True)
    assert (adapter_off(lora).logp(encoded) - reference.logp(encoded)).abs().max() <= 1e-6
    assert all(part.training for part in lora.module.modules())


def test_across_layouts_the_ratio_is_below_2e_5() -> None:
    plain, grouped = (tiny.policy("llama", layout=layout) for layout in LAYOUTS)
    reference = frozen_copy(plain).logp(plain.collate(GROUPS, ROWS))
    logp = grouped.outputs(grouped.collate(GROUPS, ROWS), ("logp",))["logp"]
    assert (logp - reference).abs().max() <= 2e-5
