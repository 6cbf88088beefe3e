"""What a reference adds to the memory of a training: nothing where its numbers are kept, else the weights that learn, or another model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attune.config.load import build_recipe
from attune.policies.adapters import adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy
from attune.recipes.passes import asks_reference, reference_bytes
from tests import tiny
from tests.training.helpers import objective


def said(policy: CausalPolicy, name: str = "dpo", **reference: Any) -> tuple[bool, int]:
    stage = {"name": "s", "model": {"path": "m"}, "data": {"train": "d.jsonl"}, "objectives": [{"name": name}], "reference": reference}
    made = build_recipe(stage).stages[0]
    return asks_reference(made, [objective(name)]), reference_bytes(made, policy, [objective(name)])


def adapted(*, continued: bool) -> CausalPolicy:
    policy = CausalPolicy(add_adapter(tiny.model(), {"rank": 2}), tiny.tokenizer(chat="chatml"))
    policy.continued = continued
    return policy


AVERAGE, COPY = {"source": "ema", "decay": 0.9}, {"source": "refreshed", "alpha": 1.0, "every": 9}


@pytest.mark.parametrize(("dtype", "average", "copy"), [(torch.float32, 4, 4), (torch.bfloat16, 4, 2), (torch.float64, 8, 8)])
def test_all_weights_learn(dtype: torch.dtype, average: int, copy: int) -> None:
    policy = tiny.policy(dtype=dtype)
    num = sum(parameter.numel() for parameter in policy.module.parameters())
    assert said(policy) == (False, 0)
    assert said(policy, "simpo", cache="off") == (False, 0)
    assert said(policy, cache="off") == (True, copy * num)
    assert said(policy, "kto") == (True, copy * num)
    assert said(policy, **AVERAGE) == (True, average * num)
    assert said(policy, **COPY) == (True, copy * num)
    assert said(policy, source="refreshed", alpha=0.5, every=9) == (True, average * num)


def test_an_adapter_learns() -> None:
    new, continued = adapted(continued=False), adapted(continued=True)
    num = sum(parameter.numel() for parameter in adapter_parameters(new.module).values())
    every = sum(parameter.numel() for parameter in new.module.parameters())
    assert said(new, cache="off") == (True, 0)
    assert said(continued, cache="off") == (True, 4 * num)
    assert said(continued, cache="off", source="adapter_off") == (True, 0)
    assert said(new, **AVERAGE) == (True, 4 * num)
    assert said(new, "kto", source="checkpoint", path="elsewhere") == (True, 4 * every)
    assert said(new, source="checkpoint", path="elsewhere") == (False, 0)
