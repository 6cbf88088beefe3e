"""The self-check lets a right layout pass with what it measured, and takes a wrong one out of use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attune.policies import attention
from attune.training.self_check import self_check
from tests import tiny
from tests.training.helpers import items


@pytest.mark.parametrize(("architecture", "head"), [("llama", "lm"), ("gpt2", "scalar")])
def test_a_right_layout_passes(architecture: str, head: str) -> None:
    policy = tiny.policy(architecture, head=head)
    said = self_check(policy, items(2, 2))
    assert policy.layout_used == "shared"
    assert said.startswith("layout shared: ")
    assert "4 rows of 2 groups agree to" in said
    assert float(said.rpartition(" ")[2]) < 2e-5


def test_a_layout_that_leaks_is_found_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny.policy("llama")
    real = attention.shared_attention

    def leaking(query: Tensor, key: Tensor, value: Tensor, sights: Tensor, **options: object) -> Tensor:
        return real(query, key, value, torch.cat([sights[:, :, :1] + 40, sights[:, :, 1:]], 2).clamp(max=query.shape[2]), **options)

    monkeypatch.setattr(attention, "shared_attention", leaking)
    said = self_check(policy, items(2, 2))
    assert policy.layout_used == "plain"
    assert "the shared layout changes logp by" in said
    assert self_check(policy, items(2, 2)) == said


def test_a_plain_layout_needs_no_check() -> None:
    policy = tiny.policy("llama", layout="plain")
    assert self_check(policy, items(2, 2)) == "layout plain: asked for"
