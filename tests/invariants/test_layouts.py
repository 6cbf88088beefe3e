"""The shared layout computes each prompt once and changes no number: log-probabilities, gradients, rewards; and it knows when it may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attune.core.protocols import Row
from attune.core.record import Group, Prompt, Response
from attune.policies.causal import CausalPolicy
from attune.policies.layouts import ARCHITECTURES
from tests import tiny


def both(architecture: str, **options: Any) -> tuple[CausalPolicy, CausalPolicy]:
    return tiny.policy(architecture, layout="plain", **options), tiny.policy(architecture, layout="shared", **options)


def logp(policy: CausalPolicy, groups: list[Group], rows: list[Row]) -> Tensor:
    return policy.outputs(policy.collate(groups, rows), ("logp",))["logp"]


def gradients(policy: CausalPolicy, groups: list[Group], rows: list[Row]) -> dict[str, Tensor]:
    found = logp(policy, groups, rows)
    weights = torch.sin(torch.arange(found.numel(), dtype=found.dtype)).view_as(found)
    policy.module.zero_grad()
    (weights * found).sum().backward()
    return {name: parameter.grad for name, parameter in policy.module.named_parameters()}


@pytest.mark.parametrize("architecture", tiny.EVERY)
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_log_probabilities_agree(architecture: str, k: int) -> None:
    plain, shared = both(architecture)
    groups = tiny.groups(3, k)
    rows = tiny.rows(groups)
    assert shared.layout_used == "shared"
    assert (logp(plain, groups, rows) - logp(shared, groups, rows)).abs().max() <= 2e-5


@pytest.mark.parametrize("architecture", tiny.EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_agree(architecture: str, dtype: torch.dtype) -> None:
    # the norms of all but GPT-2 compute in float32 whatever the weights are
    limit = 1e-4 if dtype == torch.float32 else 1e-9 if architecture == "gpt2" else 1e-6
    plain, shared = both(architecture, dtype=dtype)
    groups = tiny.groups(2, 3)
    rows = [*tiny.rows(groups), Row(group=0, response=2, written_by=1)]
    wanted, got = gradients(plain, groups, rows), gradients(shared, groups, rows)
    assert logp(shared, groups, rows).dtype == dtype
    for name, gradient in wanted.items():
        assert (got[name] - gradient).norm() <= limit * gradient.norm(), name


def test_rewards_agree() -> None:
    plain, shared = both("qwen2", head="scalar")
    groups = tiny.groups(3, 3)
    first, second = (policy.outputs(policy.collate(groups, tiny.rows(groups)), ("reward",))["reward"] for policy in (plain, shared))
    assert (first - second).abs().max() <= 2e-5
    assert first.std() > 0.1


def test_a_response_read_under_another_prompt() -> None:
    plain, shared = both("llama")
    groups = tiny.groups(3, 2)
    rows = [Row(group=index, response=1, written_by=(index + 1) % 3) for index in range(3)]
    as_if = [Group(id="x", contexts=group.contexts, responses=groups[(index + 1) % 3].responses) for index, group in enumerate(groups)]
    wanted = logp(plain, as_if, [Row(group=index, response=1) for index in range(3)])
    for policy in (plain, shared):
        assert (logp(policy, groups, rows) - wanted).abs().max() <= 2e-5


def test_two_contexts_of_one_response() -> None:
    plain, shared = both("llama")
    contexts = {"main": Prompt(content="Is it raining today?"), "short": Prompt(content="Rain?")}
    group = Group(id="a", contexts=contexts, responses=(Response(content="Yes"), Response(content="No, it is not")))
    rows = [Row(group=0, response=index, context=name, role=name) for name in contexts for index in range(2)]
    first = logp(plain, [group], rows)
    assert (first - logp(shared, [group], rows)).abs().max() <= 2e-5
    assert (first[:2] - first[2:]).abs().max() > 0.1


def test_each_prompt_is_computed_once() -> None:
    plain, shared = both("llama", chat=None, bos=False)
    prompts = ("The quick brown fox jumps over", "She said: Is it raining?")
    answers = tuple(Response(content=text) for text in (" yes", " no, never", " maybe; so", " 10 times"))
    groups = [Group(id=prompt[:3], contexts={"main": Prompt(content=prompt)}, responses=answers) for prompt in prompts]
    rows = tiny.rows(groups)
    tokens = [shared.tokens(groups[row.group], row) for row in rows]
    unique = sum(len(tokens[index].prompt_ids) for index in (0, 4)) + sum(len(row.response_ids) for row in tokens)
    longest = max(len(row.prompt_ids) + len(row.response_ids) for row in tokens)
    assert shared.collate(groups, rows).num_tokens == unique
    assert plain.collate(groups, rows).num_tokens == 8 * longest
    twins = [groups[0], Group(id="twin", contexts=groups[0].contexts, responses=groups[0].responses[:1])]
    assert shared.collate(twins, tiny.rows(twins)).num_tokens == unique - sum(len(row.response_ids) for row in tokens[4:]) - len(tokens[4].prompt_ids)


def test_keys_name_content_and_not_layout_or_order() -> None:
    plain, shared = both("llama")
    groups = tiny.groups(2, 2)
    rows = tiny.rows(groups)
    keys = plain.collate(groups, rows).keys
    assert len(set(keys)) == 4
    assert shared.collate(groups[::-1], rows).keys == keys[2:] + keys[:2]


@pytest.mark.parametrize("architecture", tiny.WINDOWED)
def test_windows_shorter_than_the_rows(architecture: str) -> None:
    plain, shared = both(architecture, window=12)
    groups = tiny.groups(3, 3)
    rows = tiny.rows(groups)
    assert max(len(plain.tokens(groups[row.group], row).prompt_ids) for row in rows) > 12
    assert shared.collate(groups, rows).line.layout == "shared"
    wanted = logp(plain, groups, rows)
    assert (logp(shared, groups, rows) - wanted).abs().max() <= 2e-5
    assert (logp(tiny.policy(architecture, layout="plain"), groups, rows) - wanted).abs().max() > 1e-2  # the window matters
    wanted_gradient, got = gradients(plain, groups, rows), gradients(shared, groups, rows)
    for name, gradient in wanted_gradient.items():
        assert (got[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_an_architecture_that_nobody_tested_is_laid_out_plain_beyond_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ARCHITECTURES, "mistral")
    policy = tiny.policy("mistral", window=16)
    assert (policy.layout_used, policy.layout.window) == ("shared", 16)
    assert "window of 16 tokens" in policy.layout_reason
    groups = tiny.groups(2, 2)
    assert policy.collate(groups, tiny.rows(groups)).line.layout == "plain"


@pytest.mark.parametrize("architecture", tiny.EVERY)
def test_the_table_of_architectures_holds(architecture: str) -> None:
    policy = tiny.policy(architecture)
    assert policy.layout_used == ARCHITECTURES[policy.model.config.model_type], policy.layout_reason


def test_every_architecture_of_the_table_is_tested() -> None:
    shared = {name for name, layout in ARCHITECTURES.items() if layout == "shared"}
    assert shared == set(tiny.EVERY) | {"gemma3"}  # with pictures; its text model is gemma3_text


def made(name: str, **sizes: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(vocab_size=512, **sizes)).eval()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: made("MambaConfig", hidden_size=16, num_hidden_layers=1, state_size=4), "in a way of its own"),
        (lambda: made("BloomConfig", hidden_size=16, n_layer=1, n_head=2), "in a way of its own"),
        (lambda: made("GPTNeoConfig", hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], window_size=4), "of its own"),
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
    assert policy.layout_used == "shared"
    assert (logp(policy, groups, tiny.rows(groups)) - logp(tiny.policy("llama", layout="plain"), groups, tiny.rows(groups))).abs().max() <= 2e-5
