"""Heads: the tiled one agrees with the model's logits or is not used; a reward head agrees with transformers' classifiers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attune.core.errors import AttuneError, ConfigError, MissingField
from attune.core.protocols import Row
from attune.core.record import Group
from attune.policies.causal import CausalPolicy
from attune.policies.heads import LogitsHead, TiledHead
from tests import tiny


def build(name: str, **more: Any) -> Any:
    import transformers

    sizes = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes, initializer_range=0.5, pad_token_id=None, **more)).eval()


def check(policy: CausalPolicy) -> None:
    groups: list[Group] = tiny.groups(1, 2)
    encoded = policy.collate(groups, tiny.rows(groups))
    got = policy.outputs(encoded, ("logp",))["logp"]
    for n in range(2):
        tokens = policy.tokens(groups[0], Row(group=0, response=n))
        ids = torch.tensor([tokens.prompt_ids + tokens.response_ids])
        own = torch.log_softmax(policy.model(ids).logits[0], -1)
        wanted = own[torch.arange(len(tokens.prompt_ids) - 1, ids.shape[1] - 1), torch.tensor(tokens.response_ids)]
        assert (got[n, : len(wanted)] - wanted).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("name", "more", "head"),
    [
        ("CohereConfig", {"logit_scale": 0.25}, TiledHead(None, 0.25)),
        ("GraniteConfig", {"logits_scaling": 4.0}, TiledHead(None, 0.25)),
        ("Gemma2Config", {"head_dim": 16, "final_logit_softcapping": 2.0}, TiledHead(2.0, 1.0)),
    ],
)
def test_scales_and_caps_of_known_models(name: str, more: dict[str, Any], head: TiledHead) -> None:
    policy = CausalPolicy(build(name, **more), tiny.tokenizer())
    assert policy.head == head
    check(policy)


def test_what_a_model_does_beyond_its_head_is_noticed() -> None:
    model = tiny.model("llama")
    model.register_forward_hook(lambda module, inputs, output: output.__setitem__("logits", output.logits.clamp(-1, 1)))
    policy = CausalPolicy(model, tiny.tokenizer())
    assert policy.head == LogitsHead()
    check(policy)


def test_an_adapter_on_the_head_goes_through_the_model_s_logits() -> None:
    from attune.policies.adapters import adapter_parameters, add_adapter

    policy = CausalPolicy(add_adapter(tiny.model("llama"), {"rank": 2, "targets": ["lm_head", "q_proj"]}), tiny.tokenizer())
    for parameter in adapter_parameters(policy.module).values():
        torch.nn.init.normal_(parameter, std=0.3)
    assert policy.head == LogitsHead()
    check(policy)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_reward_is_what_a_sequence_classifier_says_of_the_unpadded_row(architecture: str) -> None:
    policy = tiny.policy(architecture, head="scalar")
    groups = tiny.groups(2, 2)
    rows = tiny.rows(groups)
    got = policy.outputs(policy.collate(groups, rows), ("reward",))["reward"]
    policy.model.config.pad_token_id = None
    for n, row in enumerate(rows):
        tokens = policy.tokens(groups[row.group], row)
        own = policy.model(torch.tensor([tokens.prompt_ids + tokens.response_ids])).logits
        assert got[n].item() == pytest.approx(own.item(), abs=1e-5)


def test_a_policy_says_what_it_does_not_compute() -> None:
    groups = tiny.groups(1, 1)
    for head, column in (("lm", "reward"), ("scalar", "logp")):
        policy = tiny.policy(head=head)
        with pytest.raises(MissingField, match=column):
            policy.outputs(policy.collate(groups, tiny.rows(groups)), (column,))
    with pytest.raises(AttuneError, match="layer `score`"):
        CausalPolicy(tiny.model(), tiny.tokenizer(), head="scalar")
    with pytest.raises(ConfigError, match="'lm', 'scalar'"):
        CausalPolicy(tiny.model(), tiny.tokenizer(), head="vector")
