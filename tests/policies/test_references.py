"""The cache of reference log-probabilities: by content, never by place; whole or not at all on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from attune.core.errors import AttuneError, ConfigError
from attune.core.protocols import Encoded
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.references import Reference, adapter_as_loaded, adapter_off, cached, fingerprint, frozen_copy
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
    exact = frozen_copy(policy)
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
    first = cached(frozen_copy(policy), folder=str(tmp_path))
    wanted = first.logp(encoded)
    assert not list(tmp_path.rglob("*.safetensors"))
    first.flush()
    first.flush()
    assert len(list(tmp_path.rglob("*"))) == 2  # a folder for the identity, one shard, nothing left aside
    for other, calls in ((policy, 0), (tiny.policy(seed=1), 1)):
        counting = Counting(frozen_copy(other))
        got = cached(counting, folder=str(tmp_path)).logp(encoded)
        assert counting.calls == calls
        assert torch.equal(got, wanted) is (calls == 0)
    named = cached(Counting(frozen_copy(tiny.policy(seed=1))), folder=str(tmp_path), identity=fingerprint(policy))
    assert torch.equal(named.logp(encoded), wanted)


def test_a_torn_shard_is_named(tmp_path: Path) -> None:
    policy = tiny.policy()
    cache = cached(frozen_copy(policy), folder=str(tmp_path))
    cache.logp(policy.collate(GROUPS, ROWS))
    cache.flush()
    (shard,) = tmp_path.rglob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(AttuneError, match=f"{shard.name}.*delete it"):
        cached(frozen_copy(policy), folder=str(tmp_path))


def test_the_hash_is_of_what_decides_the_numbers() -> None:
    policy = tiny.policy()
    assert fingerprint(policy) == fingerprint(tiny.policy())
    others = [tiny.policy(seed=1), tiny.policy(chat="gemma"), tiny.policy(layout="plain"), tiny.policy(dtype=torch.float64)]
    assert len({fingerprint(other) for other in [policy, *others]}) == 5


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


def test_a_frozen_copy_shares_no_weight_and_trains_none() -> None:
    policy = tiny.policy("qwen2")
    copy = frozen_copy(policy)
    encoded = policy.collate(GROUPS, ROWS)
    before = copy.logp(encoded)
    assert not before.requires_grad
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.zero_()
    assert torch.equal(copy.logp(encoded), before)
