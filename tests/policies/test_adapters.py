"""Adapters: a new one changes nothing, only its weights train, a saved one comes back, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attune.core.errors import AttuneError, ConfigError
from attune.policies.adapters import adapter_off, adapter_parameters, add_adapter
from attune.policies.causal import CausalPolicy, load
from tests import tiny

GROUPS = tiny.groups(2, 2)
ROWS = tiny.rows(GROUPS)


def read(policy: CausalPolicy, column: str = "logp") -> torch.Tensor:
    return policy.outputs(policy.collate(GROUPS, ROWS), (column,))[column]


def shaken(policy: CausalPolicy) -> CausalPolicy:
    torch.manual_seed(1)
    for parameter in adapter_parameters(policy.module).values():
        torch.nn.init.normal_(parameter, std=0.2)
    return policy


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_new_adapter_changes_no_number_and_trains_alone(architecture: str) -> None:
    policy = CausalPolicy(add_adapter(tiny.model(architecture), {"rank": 2}), tiny.tokenizer(chat="chatml"))
    assert torch.equal(read(policy), read(tiny.policy(architecture)))
    trainable = {name for name, parameter in policy.module.named_parameters() if parameter.requires_grad}
    assert trainable == set(adapter_parameters(policy.module))
    layers = 4 if architecture == "gpt2" else 7  # linear layers in each of two blocks, the head left out
    assert len(trainable) == 2 * layers * 2


def test_its_contribution_is_alpha_over_rank_times_b_times_a() -> None:
    policy = shaken(CausalPolicy(add_adapter(tiny.model(), {"rank": 2, "alpha": 6, "targets": ["q_proj"]}), tiny.tokenizer(chat="chatml")))
    merged = tiny.policy()
    weights = dict(policy.module.named_parameters())
    for number, layer in enumerate(merged.model.model.layers):
        where = f"base_model.model.model.layers.{number}.self_attn.q_proj.lora_"
        layer.self_attn.q_proj.weight.data += 3 * weights[where + "B.default.weight"] @ weights[where + "A.default.weight"]
    assert (read(policy) - read(merged)).abs().max() < 2e-5


def test_a_reward_head_trains_beside_the_adapter() -> None:
    policy = CausalPolicy(add_adapter(tiny.model(head="scalar"), {"rank": 2}, head="scalar"), tiny.tokenizer(), head="scalar")
    read(policy, "reward").sum().backward()
    trained = {name for name, parameter in policy.module.named_parameters() if parameter.grad is not None}
    assert any("score" in name for name in trained)
    assert trained == set(adapter_parameters(policy.module))


def test_off_is_the_model_without_it_and_on_again_after() -> None:
    policy = shaken(CausalPolicy(add_adapter(tiny.model(), {"rank": 2}), tiny.tokenizer(chat="chatml")))
    before = read(policy)
    with adapter_off(policy):
        assert torch.equal(read(policy), read(tiny.policy()))
    assert torch.equal(read(policy), before)
    assert (before - read(tiny.policy())).abs().max() > 0.01
    with pytest.raises(ConfigError, match="no adapter"), adapter_off(tiny.policy()):
        pass


def test_saved_with_its_base_named_it_comes_back(tmp_path: Path) -> None:
    base, folder = str(tmp_path / "base"), str(tmp_path / "adapter")
    tiny.policy("qwen2").save(base)
    policy = shaken(load(base, adapter={"rank": 2, "targets": ["q_proj", "v_proj"]}))
    policy.save(folder)
    assert not list(Path(folder).glob("*.bin"))
    for again in (load(folder), load(base, adapter={"path": folder})):
        assert torch.equal(read(again), read(policy))
        assert all(parameter.requires_grad for parameter in adapter_parameters(again.module).values())
    fixed = load(base, adapter={"path": folder, "trainable": False})
    with adapter_off(fixed):
        pass
    assert not any(parameter.requires_grad for parameter in fixed.module.parameters())


def test_a_saved_reward_adapter_brings_its_head(tmp_path: Path) -> None:
    base, folder = str(tmp_path / "base"), str(tmp_path / "adapter")
    tiny.policy("llama").save(base)
    policy = shaken(load(base, head="scalar", adapter={"rank": 2}, new_head=True))
    policy.save(folder)
    assert torch.equal(read(load(folder, head="scalar"), "reward"), read(policy, "reward"))


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.rnak.*allowed: rank, alpha"):
        add_adapter(tiny.model(), {"rnak": 2})
    with pytest.raises(ConfigError, match=r"adapter\.rank.*got 0"):
        add_adapter(tiny.model(), {"rank": 0})
    with pytest.raises(ConfigError, match=r"adapter\.targets"):
        add_adapter(tiny.model(), {"targets": ["no_such_layer"]})
    with pytest.raises(AttuneError, match=r"adapter_config\.json is missing"):
        add_adapter(tiny.model(), {"path": str(tmp_path)})
