"""A row's numbers do not depend on its neighbours, on padding, or on where it stands: rotary and learned positions, both layouts, both heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attune.core.protocols import Row
from attune.core.record import MAIN, Group, Prompt, Response
from attune.policies.causal import CausalPolicy
from tests import tiny

ARCHITECTURES = ("llama", "gpt2")
LAYOUTS = ("plain", "grouped")


def oracle(policy: CausalPolicy, group: Group, response: int) -> Tensor:
    """Log-probabilities of one response from the model's logits of the one unpadded sequence."""
    tokens = policy.tokens(group, Row(group=0, response=response))
    ids = torch.tensor([tokens.prompt_ids + tokens.response_ids])
    with torch.no_grad():
        logp = torch.log_softmax(policy.model(ids).logits[0].double(), -1)
    start = len(tokens.prompt_ids)
    return torch.stack([logp[place - 1, ids[0, place]] for place in range(start, ids.shape[1])])


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_equals_the_model_s_own_logits_of_it_alone(architecture: str, layout: str) -> None:
    policy = tiny.policy(architecture, layout=layout)
    groups = tiny.groups(3, 3)
    rows = tiny.rows(groups)
    assert policy.layout_used == layout
    encoded = policy.collate(groups, rows)
    logp_NT = policy.outputs(encoded, ("logp",))["logp"]
    for n, row in enumerate(rows):
        wanted = oracle(policy, groups[row.group], row.response)
        assert encoded.mask[n].tolist() == [step < len(wanted) for step in range(encoded.mask.shape[1])]
        assert (logp_NT[n, : len(wanted)] - wanted).abs().max() < 1e-5
        assert (logp_NT[n, len(wanted) :] == 0).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("head", "column"), [("lm", "logp"), ("scalar", "reward")])
def test_alone_is_the_same_as_in_any_batch(architecture: str, layout: str, head: str, column: str) -> None:
    policy = tiny.policy(architecture, layout=layout, head=head)
    groups = tiny.groups(4, 2)
    rows = tiny.rows(groups)

    def read(which: list[int]) -> list[Tensor]:
        encoded = policy.collate(groups, [rows[index] for index in which])
        with torch.no_grad():
            found = policy.outputs(encoded, (column,))[column]
        return [value[mask] if head == "lm" else value for value, mask in zip(found, encoded.mask, strict=True)]

    alone = [read([index])[0] for index in range(8)]
    for which in ([0, 1], [7, 0, 3], list(range(8)), list(range(7, -1, -1)), [2, 2, 5]):
        for index, value in zip(which, read(which), strict=True):
            assert (value - alone[index]).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_in_the_padding_is_never_read(architecture: str) -> None:
    policy = tiny.policy(architecture, layout="plain")
    groups = tiny.groups(3, 2)
    encoded = policy.collate(groups, tiny.rows(groups))
    (line,) = encoded.lines
    padding = line.segment < 0
    assert padding.any()
    poisoned = replace(encoded, lines=(replace(line, ids=torch.where(padding, 77, line.ids)),))
    first, second = (policy.outputs(one, ("logp",))["logp"] for one in (encoded, poisoned))
    assert torch.equal(first, second)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_response_of_one_token_scores_right(layout: str) -> None:
    policy = tiny.policy("gpt2", layout=layout, chat=None)
    group = Group(id="a", contexts={MAIN: Prompt(content="Yes, no,")}, responses=(Response(content=""), Response(content=" maybe; yes")))
    encoded = policy.collate([group], tiny.rows([group]))
    assert encoded.mask.sum(-1).tolist()[0] == 1
    logp_NT = policy.outputs(encoded, ("logp",))["logp"]
    assert logp_NT[0, 0].item() == pytest.approx(oracle(policy, group, 0).item(), abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_others_say_inside_a_response_is_read_and_not_scored(layout: str) -> None:
    policy = tiny.policy("llama", layout=layout)
    turns = ({"role": "assistant", "content": "I add."}, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "It is 5."})
    group = Group(id="a", contexts={MAIN: Prompt(content="2+3?")}, responses=(Response(content=turns), Response(content="5")))
    encoded = policy.collate([group], tiny.rows([group]))
    tokens = policy.tokens(group, Row(group=0, response=0))
    assert encoded.mask[0].tolist() == list(tokens.supervised)
    assert 0 < sum(tokens.supervised) < len(tokens.supervised)
    logp_T = policy.outputs(encoded, ("logp",))["logp"][0]
    wanted = torch.where(encoded.mask[0], oracle(policy, group, 0), 0.0)
    assert (logp_T - wanted).abs().max() < 1e-5
