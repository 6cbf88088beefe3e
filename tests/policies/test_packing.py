"""Layouts laid out by hand: who sees whom, at which position, and which place predicts which token."""

from __future__ import annotations

import torch

from attune.policies.layouts import states
from attune.policies.packing import pack, row_key
from attune.policies.templates import Tokens
from tests import tiny


def row(prompt: tuple[int, ...], response: tuple[int, ...], supervised: tuple[bool, ...] | None = None) -> Tokens:
    return Tokens(prompt, response, supervised or (True,) * len(response), 0, 0)


FIRST = row((11, 12), (21, 22))
SECOND = row((13,), (31, 32, 33), (True, False, True))
THIRD = row((11, 12), (41,))


def test_grouped_by_hand() -> None:
    packed = pack([FIRST, SECOND, THIRD], "grouped")
    (line,) = packed.lines
    assert line.ids.tolist() == [[11, 12, 21, 22, 41, 13, 31, 32, 33]]
    assert line.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 3]]
    sees = (line.attention(torch.float64)[0, 0] == 0).int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 1],
    ]
    assert packed.mask.tolist() == [[True, True, False], [True, False, True], [True, False, False]]
    assert packed.predicting.tolist() == [1, 2, 5, 7, 1]
    assert packed.targets.tolist() == [21, 22, 31, 33, 41]
    assert packed.last.tolist() == [3, 8, 4]
    assert packed.num_tokens == 9


def test_plain_by_hand() -> None:
    packed = pack([FIRST, SECOND, THIRD], "plain")
    (line,) = packed.lines
    assert line.ids.tolist() == [[11, 12, 21, 22], [13, 31, 32, 33], [11, 12, 41, 0]]
    assert line.positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 0]]
    assert line.attention(torch.float32).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert packed.predicting.tolist() == [1, 2, 4, 6, 9]
    assert packed.last.tolist() == [3, 7, 10]
    assert packed.num_tokens == 12


def test_lines_end_between_prompts_and_change_nothing() -> None:
    policy = tiny.policy("llama")
    groups = tiny.groups(5, 2)
    rows = [policy.tokens(groups[one.group], one) for one in tiny.rows(groups)]
    whole, parted = pack(rows, "grouped"), pack(rows, "grouped", line_tokens=60)
    assert len(whole.lines) == 1
    assert len(parted.lines) > 2
    assert whole.num_tokens == parted.num_tokens == sum(line.ids.numel() for line in parted.lines)
    single = pack(rows, "grouped", line_tokens=1)
    assert len(single.lines) == 5
    wanted = policy.outputs(whole, ("logp",))["logp"]
    for other in (parted, single):
        assert (policy.outputs(other, ("logp",))["logp"] - wanted).abs().max() < 1e-5
        assert (states(policy.model, policy.head, other)[other.last] - states(policy.model, policy.head, whole)[whole.last]).abs().max() < 1e-4


def test_equal_rows_are_computed_once_and_both_answered() -> None:
    packed = pack([FIRST, THIRD, FIRST], "grouped")
    assert packed.num_tokens == 5
    assert packed.predicting.tolist() == [1, 2, 1, 1, 2]
    assert packed.keys[0] == packed.keys[2] != packed.keys[1]


def test_a_key_tells_apart_where_the_response_begins_and_what_is_supervised() -> None:
    rows = [row((1, 2), (3,)), row((1,), (2, 3)), row((1,), (2, 3), (True, False)), row((12,), (3,))]
    assert len({row_key(one) for one in rows}) == 4
