"""The balance of experts: transformers' own value and gradient on the padded rows, whatever the layout, the split into passes and the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from attune.core.errors import ConfigError
from attune.core.protocols import Row
from attune.policies.activations import leave
from attune.policies.causal import CausalPolicy
from attune.policies.experts import Experts, uses
from attune.policies.sharding import whole
from attune.training.balance import Balance, balance_of
from attune.training.distributed import SINGLE, World, spread
from tests import tiny
from tests.distributed.ranks import on_ranks
from tests.training.helpers import items, learner

GROUPS = tiny.groups(5, 3)
ROWS = [*tiny.rows(GROUPS), Row(group=2, response=1)]  # one row twice
KINDS = ("mixtral", "qwen2_moe", "qwen3_moe")
COEFFICIENT = 0.7
SPLITS: list[list[Sequence[int]]] = [[range(16)], [range(7), range(7, 16)], [[n] for n in range(16)], [range(0, 16, 2), range(1, 16, 2)]]


def oracle(kind: str) -> tuple[float, float, Tensor]:
    """Returns the balance in float64, the same by transformers' function in float32, and the gradient of coefficient * balance, from the padded rows alone."""
    policy = tiny.policy(kind, layout="plain", dtype=torch.float64)
    tokens = [policy.tokens(GROUPS[row.group], row) for row in ROWS]
    texts = [list(one.prompt_ids + one.response_ids) for one in tokens]
    length = max(map(len, texts))
    ids = torch.tensor([text + [0] * (length - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (length - len(text)) for text in texts])
    logits = policy.model(input_ids=ids, attention_mask=mask, output_router_logits=True).router_logits
    chances = torch.stack([torch.softmax(one.double(), -1) for one in logits])[:, mask.flatten().bool()].flatten(0, 1)
    chosen = torch.nn.functional.one_hot(chances.topk(2, -1).indices, 4).sum(1).double()
    balance = 4 * (chosen.mean(0) * chances.mean(0)).sum()
    (COEFFICIENT * balance).backward()
    theirs = load_balancing_loss_func(logits, 4, 2, mask).item()
    return balance.item(), theirs, gradient(policy)


def gradient(policy: CausalPolicy) -> Tensor:
    grads = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in policy.module.parameters()]
    return torch.cat([whole(grad).flatten() for grad in grads])


def pulled(policy: CausalPolicy, parts: Sequence[Sequence[int]], *, weight: float = 0.0, world: World = SINGLE) -> tuple[float, Tensor]:
    """Returns the term, and the gradient of weight * (sum of log-probabilities) + coefficient * balance, in passes over the parts of the rows."""
    experts = Experts(policy.model)
    balance = Balance(experts, COEFFICIENT)
    pieces = [policy.collate(GROUPS, [ROWS[n] for n in part]) for part in parts]
    passes = world.most(len(pieces))
    idle = [policy.collate(GROUPS, ROWS[:1])] * (passes - len(pieces))

    def compute(encoded: object) -> Tensor:
        experts.begin(encoded)
        return policy.outputs(encoded, ("logp",))["logp"]

    said = balance.settle(balance.count(pieces, compute, idle=idle), world)
    for piece in pieces:
        (weight * compute(piece).sum()).backward()
    with balance.resting():
        for piece in idle:
            (0 * compute(piece).sum()).backward()
    return said.get("loss/experts", (0.0, 0.0))[0], gradient(policy)


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).norm() / other.norm()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["plain", "shared"])
def test_value_and_gradient_are_those_of_the_padded_rows_for_every_split(kind: str, layout: str) -> None:
    value, theirs, wanted = oracle(kind)
    assert value == pytest.approx(theirs, rel=1e-6)
    assert wanted.norm() > 1e-3
    for parts in SPLITS:
        term, found = pulled(tiny.policy(kind, layout=layout, dtype=torch.float64), parts)
        assert term == pytest.approx(COEFFICIENT * value, rel=1e-9)
        assert close(found, wanted)


def test_it_is_added_to_what_the_passes_learn_anyway() -> None:
    policy = tiny.policy("qwen3_moe", dtype=torch.float64)
    policy.outputs(policy.collate(GROUPS, ROWS), ("logp",))["logp"].sum().mul(0.01).backward()
    _, found = pulled(tiny.policy("qwen3_moe", dtype=torch.float64), SPLITS[1], weight=0.01)
    assert close(found, gradient(policy) + oracle("qwen3_moe")[2])


@pytest.mark.parametrize("way", ["recompute", "offload"])
def test_layers_that_are_computed_again_pull_once(way: str) -> None:
    policy = tiny.policy("mixtral", dtype=torch.float64)
    leave(policy.model, way)
    assert close(pulled(policy, SPLITS[1])[1], oracle("mixtral")[2])


def ranks(world: World) -> tuple[float, Tensor]:
    """Rank 0 has three passes, rank 1 two; the weights are whole, or sharded."""
    policy = tiny.policy("mixtral", dtype=torch.float64)
    spread(policy, world)
    own = [range(3), range(3, 7), range(7, 9)] if world.main else [range(9, 10), range(10, 16)]
    term, _ = pulled(policy, own, world=world)
    world.sum_gradients(policy.module.parameters())
    return term, gradient(policy)


@pytest.mark.parametrize("parallel", ["data", "fsdp"])
def test_ranks_pull_together(tmp_path: Path, parallel: str) -> None:
    value, _, wanted = oracle("mixtral")
    (term, found), (nothing, same) = on_ranks(tmp_path, ranks, parallel=parallel)
    assert term == pytest.approx(COEFFICIENT * value, rel=1e-9)
    assert nothing == 0
    assert torch.equal(found, same)
    assert close(found, wanted)


def test_other_passes_are_left_alone() -> None:
    policy, plain = tiny.policy("mixtral"), tiny.policy("mixtral")
    encoded = policy.collate(GROUPS, ROWS)
    before = policy.outputs(encoded, ("logp",))["logp"].detach()
    experts = Experts(policy.model)
    balance = Balance(experts, COEFFICIENT)
    experts.begin(encoded)
    with balance.resting():
        policy.outputs(encoded, ("logp",))["logp"].sum().backward()
    plain.outputs(encoded, ("logp",))["logp"].sum().backward()
    assert torch.equal(gradient(policy), gradient(plain))
    assert torch.equal(policy.outputs(encoded, ("logp",))["logp"], before)


def test_a_token_counts_for_each_row_it_belongs_to() -> None:
    """Fifteen rows of five prompts and one of them twice: the uses add up to the tokens of all rows, in either layout."""
    for layout in ("plain", "shared"):
        policy = tiny.policy(layout=layout)
        tokens = [policy.tokens(GROUPS[row.group], row) for row in ROWS]
        found = uses(policy.collate(GROUPS, ROWS))
        assert int(found.sum()) == sum(len(one.prompt_ids) + len(one.response_ids) for one in tokens)
        assert int(found.max()) == (4 if layout == "shared" else 1)  # the prompt of three rows and the double


def test_the_busiest_expert() -> None:
    policy = tiny.policy("mixtral")
    for router in (layer.mlp.gate for layer in policy.model.model.layers):
        router.weight.data.zero_()
    experts = Experts(policy.model)
    encoded = policy.collate(GROUPS, ROWS)
    experts.begin(encoded)
    balance = Balance(experts, 1.0)
    said = balance.settle(balance.count([encoded], lambda one: policy.outputs(one, ("logp",))))
    assert said["busiest_expert"][0] == pytest.approx(2.0)  # all chances are alike, so the same two of four experts get every token
    assert said["loss/experts"][0] == pytest.approx(4 * 2 * 0.25)  # sum of loads 2, each chance 1/4


def test_the_weight_is_the_recipes_or_the_models_own() -> None:
    policy, dense = tiny.policy("mixtral"), tiny.policy()
    config = policy.model.config
    assert balance_of(policy, None) is None
    assert balance_of(policy, 0.0) is None
    config.output_router_logits, config.router_aux_loss_coef = True, 0.02
    own, given = balance_of(policy, None), balance_of(policy, 0.5)
    assert own is not None
    assert given is not None
    assert (own.coefficient, given.coefficient) == (0.02, 0.5)
    assert balance_of(policy, 0.0) is None
    assert balance_of(dense, None) is None
    with pytest.raises(ConfigError, match=r"train\.balance_experts.*llama"):
        balance_of(dense, 0.1)


@pytest.mark.parametrize("names", [("sft",), ("kto",)])
def test_an_update_has_it_whatever_the_passes(names: tuple[str, ...]) -> None:
    """With an objective that is computed row by row, and with one that couples all rows, in one pass or in many."""
    found, batch = [], items(6)
    for tokens, weight in ((None, 0.0), (None, COEFFICIENT), (60, COEFFICIENT), (25, COEFFICIENT)):
        policy = tiny.policy("mixtral", dtype=torch.float64)
        made = learner(policy, names, tokens_per_pass=tokens)
        made.balance = balance_of(policy, weight)
        sums = made.backward(batch)
        made.backward(batch)  # begins anew: what the first has left pulls no longer
        found.append((gradient(policy), sums))
        assert ("loss/experts" in sums) is bool(weight)
    alone, *balanced = found
    assert not close(balanced[0][0], alone[0])
    for one, sums in balanced[1:]:
        assert close(one, balanced[0][0])
        assert sums["loss/experts"][0] == pytest.approx(balanced[0][1]["loss/experts"][0], rel=1e-9)
    rows = tiny.rows([item.group for item in batch])
    policy = tiny.policy("mixtral", dtype=torch.float64)
    if names == ("sft",):  # whose rows are these, each once
        experts = Experts(policy.model)
        balance = Balance(experts, COEFFICIENT)
        encoded = policy.collate([item.group for item in batch], rows)
        experts.begin(encoded)
        balance.settle(balance.count([encoded], lambda one: policy.outputs(one, ("logp",))))
        (0 * policy.outputs(encoded, ("logp",))["logp"].sum()).backward()
        assert close(balanced[0][0], alone[0] + gradient(policy))
