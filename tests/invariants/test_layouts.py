"""The grouped layout computes each prompt once and changes no number: log-probabilities, gradients, rewards; and it knows when it may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attune.core.protocols import Row
from attune.core.record import Group, Prompt, Response
from attune.policies.causal import CausalPolicy
from tests import tiny


def both(architecture: str, **options: Any) -> tuple[CausalPolicy, CausalPolicy]:
    return tiny.policy(architecture, layout="plain", **options), tiny.policy(architecture, layout="grouped", **options)


def logp(policy: CausalPolicy, groups: list[Group], rows: list[Row]) -> Tensor:
    return policy.outputs(policy.collate(groups, rows), ("logp",))["logp"]


def gradients(policy: CausalPolicy, groups: list[Group], rows: list[Row]) -> dict[str, Tensor]:
    found = logp(policy, groups, rows)
    weights = torch.sin(torch.arange(found.numel(), dtype=found.dtype)).view_as(found)
    policy.module.zero_grad()
    (weights * found).sum().backward()
    return {name: parameter.grad for name, parameter in policy.module.named_parameters()}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_log_probabilities_agree(architecture: str, k: int) -> None:
    plain, grouped = both(architecture)
    groups = tiny.groups(3, k)
    rows = tiny.rows(groups)
    assert grouped.layout_used == "grouped"
    assert (logp(plain, groups, rows) - logp(grouped, groups, rows)).abs().max() <= 2e-5


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_agree(architecture: str, dtype: torch.dtype) -> None:
    # the norms of all but GPT-2 compute in float32 whatever the weights are
    limit = 1e-4 if dtype == torch.float32 else 1e-9 if architecture == "gpt2" else 1e-6
    plain, grouped = both(architecture, dtype=dtype)
    groups = tiny.groups(2, 3)
    rows = [*tiny.rows(groups), Row(group=0, response=2, written_by=1)]
    wanted, got = gradients(plain, groups, rows), gradients(grouped, groups, rows)
    assert logp(grouped, groups, rows).dtype == dtype
    for name, gradient in wanted.items():
        assert (got[name] - gradient).norm() <= limit * gradient.norm(), name


def test_rewards_agree() -> None:
    plain, grouped = both("qwen2", head="scalar")
    groups = tiny.groups(3, 3)
    first, second = (policy.outputs(policy.collate(groups, tiny.rows(groups)), ("reward",))["reward"] for policy in (plain, grouped))
    assert (first - second).abs().max() <= 2e-5
    assert first.std() > 0.1


def test_a_response_read_under_another_prompt() -> None:
    plain, grouped = both("llama")
    groups = tiny.groups(3, 2)
    rows = [Row(group=index, response=1, written_by=(index + 1) % 3) for index in range(3)]
    as_if = [Group(id="x", contexts=group.contexts, responses=groups[(index + 1) % 3].responses) for index, group in enumerate(groups)]
    wanted = logp(plain, as_if, [Row(group=index, response=1) for index in range(3)])
    for policy in (plain, grouped):
        assert (logp(policy, groups, rows) - wanted).abs().max() <= 2e-5


def test_two_contexts_of_one_response() -> None:
    plain, grouped = both("llama")
    contexts = {"main": Prompt(content="Is it raining today?"), "short": Prompt(content="Rain?")}
    group = Group(id="a", contexts=contexts, responses=(Response(content="Yes"), Response(content="No, it is not")))
    rows = [Row(group=0, response=index, context=name, role=name) for name in contexts for index in range(2)]
    first = logp(plain, [group], rows)
    assert (first - logp(grouped, [group], rows)).abs().max() <= 2e-5
    assert (first[:2] - first[2:]).abs().max() > 0.1


def test_each_prompt_is_computed_once() -> None:
    plain, grouped = both("llama")
    groups = tiny.groups(2, 4)
    rows = tiny.rows(groups)
    tokens = [grouped.tokens(groups[row.group], row) for row in rows]
    unique = sum(len(tokens[index].prompt_ids) for index in (0, 4)) + sum(len(row.response_ids) for row in tokens)
    longest = max(len(row.prompt_ids) + len(row.response_ids) for row in tokens)
    assert grouped.collate(groups, rows).num_tokens == unique
    assert plain.collate(groups, rows).num_tokens == 8 * longest
    twins = [groups[0], Group(id="twin", contexts=groups[0].contexts, responses=groups[0].responses[:1])]
    assert grouped.collate(twins, tiny.rows(twins)).num_tokens == unique - sum(len(row.response_ids) for row in tokens[4:]) - len(tokens[4].prompt_ids)


def test_keys_name_content_and_not_layout_or_order() -> None:
    plain, grouped = both("llama")
    groups = tiny.groups(2, 2)
    rows = tiny.rows(groups)
    keys = plain.collate(groups, rows).keys
    assert len(set(keys)) == 4
    assert grouped.collate(groups[::-1], rows).keys == keys[2:] + keys[:2]


@pytest.mark.parametrize("architecture", ["mistral", "gemma2"])
def test_rows_longer_than_the_attention_window_are_laid_out_plain_and_right(architecture: str) -> None:
    config = tiny.config(architecture)
    config.sliding_window = 16
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    policy = CausalPolicy(AutoModelForCausalLM.from_config(config), tiny.tokenizer())
    groups = [
        Group(
            id="a", contexts={"main": Prompt(content="The quick brown fox jumps over")}, responses=(Response(content=" the lazy dog."), Response(content=" it"))
        )
    ]
    encoded = policy.collate(groups, tiny.rows(groups))
    assert (policy.layout_used, encoded.lines[0].layout) == ("grouped", "plain")
    assert "window of 16 tokens" in policy.layout_reason
    tokens = policy.tokens(groups[0], Row(group=0, response=0))
    assert len(tokens.prompt_ids + tokens.response_ids) > 16
    ids = torch.tensor([tokens.prompt_ids + tokens.response_ids])
    own = torch.log_softmax(policy.model(ids).logits[0], -1)
    start, end = len(tokens.prompt_ids), ids.shape[1]
    wanted = own[torch.arange(start - 1, end - 1), ids[0, start:]]
    assert (policy.outputs(encoded, ("logp",))["logp"][0, : len(wanted)] - wanted).abs().max() < 1e-5


def made(name: str, **sizes: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(vocab_size=512, **sizes)).eval()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: made("MambaConfig", hidden_size=16, num_hidden_layers=1, state_size=4), "running state"),
        (lambda: made("BloomConfig", hidden_size=16, n_layer=1, n_head=2), "takes no positions"),
        (lambda: made("GPTNeoConfig", hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], window_size=4), "by place"),
    ],
)
def test_models_that_cannot_take_it_get_the_plain_layout_with_the_reason(build: Any, reason: str) -> None:
    policy = CausalPolicy(build(), tiny.tokenizer())
    assert policy.layout_used == "plain"
    assert reason in policy.layout_reason
    groups = tiny.groups(2, 2)
    found = logp(policy, groups, tiny.rows(groups))
    alone = logp(policy, groups[1:], tiny.rows(groups[1:]))
    assert (found[2:, : alone.shape[1]] - alone).abs().max() < 1e-5


def test_a_model_that_mixes_tokens_behind_the_mask_is_found_out() -> None:
    model = tiny.model("llama")
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: output + 0.1 * output.cumsum(1))
    policy = CausalPolicy(model, tiny.tokenizer())
    assert policy.layout_used == "plain"
    assert "changes the model's states" in policy.layout_reason


def test_eager_attention_takes_the_mask_too() -> None:
    groups = tiny.groups(2, 2)
    policy = CausalPolicy(tiny.model("llama", attention="eager"), tiny.tokenizer(chat="chatml"))
    assert policy.layout_used == "grouped"
    assert (logp(policy, groups, tiny.rows(groups)) - logp(tiny.policy("llama", layout="plain"), groups, tiny.rows(groups))).abs().max() <= 2e-5
