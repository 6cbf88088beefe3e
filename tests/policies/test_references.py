"""References: whose numbers they are, that they leave the policy alone, and that each row is computed once, found by content and never by place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attune.core.errors import ConfigError
from attune.core.protocols import Encoded
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.fingerprint import fingerprint
from attune.policies.references import Reference, adapter_as_loaded, adapter_off, as_now, cached, other_model, with_weights
from tests import tiny

GROUPS = tiny.groups(4, 2)
ROWS = tiny.rows(GROUPS)


class Counting:
    """A reference that counts how often it is asked."""

    def __init__(self, reference: Reference) -> None:
        self.reference, self.identity, self.calls = reference, reference.identity, 0

    def logp(self, encoded: Encoded) -> Tensor:
        self.calls += 1
        return self.reference.logp(encoded)


def test_rows_are_found_by_content_in_any_order_and_company() -> None:
    policy = tiny.policy()
    exact = as_now(policy)
    counting = Counting(exact)
    cache = cached(counting)
    cache.logp(policy.collate(GROUPS, ROWS))
    for order in ([7, 0, 3, 2], [5], [1, 1, 6]):
        encoded = policy.collate(GROUPS, [ROWS[index] for index in order])
        assert (cache.logp(encoded) - exact.logp(encoded)).abs().max() < 1e-5
    assert counting.calls == 1
    cache.logp(policy.collate(tiny.groups(1, 1, seed=9), ROWS[:1]))
    assert counting.calls == 2


def test_a_shard_is_read_again_only_for_the_same_identity(tmp_path: Path) -> None:
    policy = tiny.policy()
    encoded = policy.collate(GROUPS, ROWS)
    first = cached(as_now(policy), folder=str(tmp_path))
    wanted = first.logp(encoded)
    assert not list(tmp_path.rglob("*.safetensors"))
    first.flush()
    first.flush()
    assert len(list(tmp_path.rglob("*"))) == 2  # a folder for the identity, one shard, nothing left aside
    for other, calls in ((policy, 0), (tiny.policy(seed=1), 1)):
        counting = Counting(as_now(other))
        got = cached(counting, folder=str(tmp_path)).logp(encoded)
        assert counting.calls == calls
        assert torch.equal(got, wanted) is (calls == 0)
    named = cached(Counting(as_now(tiny.policy(seed=1))), folder=str(tmp_path), identity=fingerprint(policy))
    assert torch.equal(named.logp(encoded), wanted)


def test_a_torn_shard_is_said_and_computed_again(tmp_path: Path) -> None:
    policy = tiny.policy()
    encoded = policy.collate(GROUPS, ROWS)
    cache = cached(as_now(policy), folder=str(tmp_path))
    wanted = cache.logp(encoded)
    cache.flush()
    (shard,) = tmp_path.rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-5])
    said: list[str] = []
    counting = Counting(as_now(policy))
    assert torch.equal(cached(counting, folder=str(tmp_path), say=said.append).logp(encoded), wanted)
    assert counting.calls == 1
    assert len(said) == 1
    assert str(shard) in said[0]


def test_the_hash_is_of_what_decides_the_numbers() -> None:
    policy = tiny.policy()
    assert fingerprint(policy) == fingerprint(tiny.policy())
    others = [tiny.policy(seed=1), tiny.policy(chat="gemma"), tiny.policy(layout="plain"), tiny.policy(dtype=torch.float64), tiny.policy(compute="bfloat16")]
    turned = tiny.policy()
    turned.model.config.rope_parameters = {**turned.model.config.rope_parameters, "rope_theta": 5.0}  # the same weights, turned in another way
    named = tiny.policy()
    named.model.config._name_or_path, named.model.config.architectures = "elsewhere", ["LlamaForCausalLM"]  # as a saved one has it
    assert len({fingerprint(other) for other in [policy, *others, turned]}) == 7
    assert fingerprint(named) == fingerprint(policy)


def test_an_adapter_of_another_strength_has_another_hash() -> None:
    """The factors alone do not decide: their product is scaled by alpha / rank, which no weight holds."""
    weak, strong = (CausalPolicy(add_adapter(tiny.model(), {"rank": 2, "alpha": alpha}), tiny.tokenizer(chat="chatml")) for alpha in (2, 4))
    for policy in (weak, strong):
        for parameter in adapter_parameters(policy.module).values():
            torch.nn.init.constant_(parameter, 0.1)
    assert fingerprint(weak) != fingerprint(strong)
    assert fingerprint(weak, adapter=False) == fingerprint(strong, adapter=False) == fingerprint(tiny.policy())


def test_under_its_adapter_a_model_has_one_hash_whatever_the_adapter() -> None:
    policy = CausalPolicy(add_adapter(tiny.model(), {"rank": 2}), tiny.tokenizer(chat="chatml"))
    off, start = adapter_off(policy), adapter_as_loaded(policy)
    assert off.identity == fingerprint(tiny.policy())
    before = fingerprint(policy)
    with torch.no_grad():
        for parameter in adapter_parameters(policy.module).values():
            parameter.add_(0.1)
    assert start.identity == before != fingerprint(policy)
    assert adapter_off(policy).identity == off.identity


def test_without_an_adapter_there_is_nothing_to_switch_off() -> None:
    for make in (adapter_off, adapter_as_loaded):
        with pytest.raises(ConfigError, match="a frozen copy"):
            make(tiny.policy())


def test_what_is_remembered_shares_no_weight_that_learns() -> None:
    policy = tiny.policy("qwen2")
    start = as_now(policy)
    encoded = policy.collate(GROUPS, ROWS)
    before = start.logp(encoded)
    assert not before.requires_grad
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.zero_()
    assert torch.equal(start.logp(encoded), before)
    assert all(torch.equal(parameter, torch.zeros_like(parameter)) for parameter in policy.module.parameters())


def test_other_values_stand_in_place_of_the_policys_and_leave_no_trace() -> None:
    """Between forward and backward another model is asked in the policy's place: no gradient changes, and the optimiser steps the same memory."""
    policy, other = tiny.policy(), tiny.policy(seed=1)
    encoded = policy.collate(GROUPS, ROWS)
    weights = {name: parameter.detach() for name, parameter in other.module.named_parameters()}
    places = [parameter.data_ptr() for parameter in policy.module.parameters()]
    policy.outputs(encoded, ("logp",))["logp"].sum().backward()
    wanted = [parameter.grad.clone() for parameter in policy.module.parameters() if parameter.grad is not None]
    policy.module.zero_grad()
    logp = policy.outputs(encoded, ("logp",))["logp"]
    assert torch.equal(with_weights(policy, weights).logp(encoded), other.outputs(encoded, ("logp",))["logp"])
    logp.sum().backward()
    found = [parameter.grad for parameter in policy.module.parameters() if parameter.grad is not None]
    assert len(found) == len(wanted) > 0
    assert all(torch.equal(one, another) for one, another in zip(found, wanted, strict=True))
    assert [parameter.data_ptr() for parameter in policy.module.parameters()] == places


def test_wider_values_are_rounded_to_the_weights_type() -> None:
    policy, same = tiny.policy(dtype=torch.bfloat16), tiny.policy(dtype=torch.bfloat16)
    encoded = policy.collate(GROUPS, ROWS)
    wide = {name: parameter.detach().float() * 0.9 for name, parameter in policy.module.named_parameters()}
    with torch.no_grad():
        for name, parameter in same.module.named_parameters():
            parameter.copy_(wide[name])
    assert torch.equal(with_weights(policy, wide).logp(encoded), same.outputs(encoded, ("logp",))["logp"])
    assert all(parameter.dtype == torch.bfloat16 for parameter in policy.module.parameters())


def test_another_model_reads_the_policys_rows_or_is_refused() -> None:
    policy, other = tiny.policy(), tiny.policy("qwen2", seed=3, chat="gemma")
    encoded = policy.collate(GROUPS, ROWS)
    alone = tiny.policy("qwen2", seed=3)
    wanted = alone.outputs(alone.collate(GROUPS, ROWS), ("logp",))["logp"]
    reference = other_model(policy, other)
    assert torch.equal(reference.logp(encoded), wanted)  # the rows are written in the policy's template
    assert reference.identity == fingerprint(alone)
    with pytest.raises(ConfigError, match=r"reference\.path.*another vocabulary"):
        other_model(policy, CausalPolicy(tiny.model(), tiny.tokenizer("metaspace", chat="chatml")))
    with pytest.raises(ConfigError, match=r"another layout.*model\.layout=plain"):
        other_model(policy, tiny.policy("qwen2", layout="plain"))
    near = tiny.policy("mistral")
    near.layout = dataclasses.replace(near.layout, window=64)  # lays longer rows out in another way
    with pytest.raises(ConfigError, match=r"another layout.*window 64"):
        other_model(policy, near)
