"""FlexAttention on a GPU against the pieces on the CPU: the same line, the same numbers."""

from __future__ import annotations

import pytest
import torch

from attune.policies.attention import shared_attention
from tests import tiny
from tests.policies.test_attention import inputs, sights

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("window", [None, 13])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-2), (torch.bfloat16, 3e-2)])  # float32 products are TF32 there
def test_flex_attention_agrees(window: int | None, softcap: float | None, dtype: torch.dtype, limit: float) -> None:
    here, there = inputs(), inputs(dtype, device="cuda")
    wanted = shared_attention(*here, sights(), scale=0.35, window=window, softcap=softcap)
    got = shared_attention(*there, sights().cuda(), scale=0.35, window=window, softcap=softcap)
    assert (got.cpu() - wanted).abs().max() < limit
    upstream = torch.sin(torch.arange(wanted.numel(), dtype=torch.float64)).view_as(wanted)
    first = torch.autograd.grad(wanted, here, upstream)
    second = torch.autograd.grad(got, there, upstream.to(got))
    for one, other in zip(first, second, strict=True):
        assert (other.cpu() - one).norm() <= limit * one.norm()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gemma2"])
def test_a_policy_on_the_gpu_gives_the_cpu_s_log_probabilities(architecture: str) -> None:
    groups = tiny.groups(3, 4)
    rows = tiny.rows(groups)
    here, there = tiny.policy(architecture), tiny.policy(architecture)
    there.module.to("cuda")
    wanted = here.outputs(here.collate(groups, rows), ("logp",))["logp"]
    got = there.outputs(there.collate(groups, rows), ("logp",))["logp"].cpu()
    assert (got - wanted).abs().max() < 1e-2
