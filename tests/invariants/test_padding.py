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
from tests.conftest import Scale, Tally

ARCHITECTURES = ("llama", "gpt2")
LAYOUTS = ("plain", "shared")


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
    padding = encoded.line.sight == 0
    assert padding.any()
    poisoned = replace(encoded, line=replace(encoded.line, ids=torch.where(padding, 77, encoded.line.ids)))
    first, second = (policy.outputs(one, ("logp",))["logp"] for one in (encoded, poisoned))
    assert torch.equal(first, second)


def test_positions_end_where_their_frequencies_would_follow_the_company() -> None:
    config = tiny.config("phi3")
    half = config.hidden_size // config.num_attention_heads // 2
    factors = {"short_factor": [1.0] * half, "long_factor": [4.0] * half, "rope_theta": 10000.0}
    config.original_max_position_embeddings = 40
    config.rope_parameters = {"rope_type": "longrope", "original_max_position_embeddings": 40, **factors}
    from transformers import AutoModelForCausalLM

    policy = CausalPolicy(AutoModelForCausalLM.from_config(config).eval(), tiny.tokenizer(chat="chatml"))
    assert config.max_position_embeddings == 256
    assert policy.max_positions == 40
    group = Group(id="a", contexts={MAIN: Prompt(content="yes " * 40)}, responses=(Response(content="no"),))
    assert "more tokens than the model's 40 positions" in policy.admit(group)[0]


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


def padded(policy: CausalPolicy, groups: list[Group], rows: list[Row], side: str, *, positions: bool = True) -> list[Tensor]:
    """Log-probabilities of rows from transformers alone: padded on one side into one tensor, with attention mask and position ids."""
    tokens = [policy.tokens(groups[row.group], row) for row in rows]
    longest = max(len(one.prompt_ids + one.response_ids) for one in tokens)
    ids, mask = torch.full((len(rows), longest), 7), torch.zeros(len(rows), longest, dtype=torch.long)
    for n, one in enumerate(tokens):
        written = torch.tensor(one.prompt_ids + one.response_ids)
        place = slice(longest - len(written), longest) if side == "left" else slice(0, len(written))
        ids[n, place], mask[n, place] = written, 1
    how = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if positions else {}
    with torch.no_grad():
        logp = torch.log_softmax(policy.model(ids, attention_mask=mask, **how).logits.double(), -1)
    said = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    ends = [longest if side == "left" else len(one.prompt_ids + one.response_ids) for one in tokens]
    return [said[n, end - 1 - len(one.response_ids) : end - 1] for n, (one, end) in enumerate(zip(tokens, ends, strict=True))]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_alone_left_padded_right_padded_and_packed(architecture: str, scale: Scale, tally: Tally) -> None:
    """The same rows five ways: transformers alone, padded left, padded right; here alone, and packed with their groups.

    The matrices are half as large as elsewhere: with those, transformers' own float32 numbers are up to 1.1e-5 from its float64 ones.
    """
    num, size = scale(24, 500), 20
    plain, packed = (tiny.policy(architecture, layout=layout) for layout in LAYOUTS)
    with torch.no_grad():
        for weight in (weight for policy in (plain, packed) for weight in policy.module.parameters() if weight.ndim == 2):
            weight.mul_(0.5)
    every = tiny.groups(num // 4, 4, seed=11)
    apart, without_positions, violations = 0.0, 0.0, 0
    for start in range(0, len(every), size):
        groups = every[start : start + size]
        rows = tiny.rows(groups)
        encoded = packed.collate(groups, rows)
        with torch.no_grad():
            together = [logp[mask] for logp, mask in zip(packed.outputs(encoded, ("logp",))["logp"], encoded.mask, strict=True)]
            alone = [plain.outputs(plain.collate(groups, [row]), ("logp",))["logp"][0] for row in rows]
        ways = [together, alone, padded(plain, groups, rows, "left"), padded(plain, groups, rows, "right")]
        shifted = padded(plain, groups, rows, "left", positions=False)
        for n, row in enumerate(rows):
            wanted = oracle(plain, groups[row.group], row.response)
            far = max(float((way[n] - wanted).abs().max()) for way in ways)
            apart, violations = max(apart, far), violations + (far >= 1e-5)
            without_positions = max(without_positions, float((shifted[n] - wanted).abs().sum()))
    tally(5, f"rows alone, padded left, padded right, packed ({architecture})", num, violations, (apart, "nats a token apart at most"))
    assert violations == 0
    assert architecture != "gpt2" or without_positions > 1, "left padding is only a case where forgotten positions would be seen"
