"""How an update is cut: worked by hand, and what must hold of every cut."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attune.core.protocols import Size
from attune.training.microbatch import Budget, in_order, plan
from tests import tiny
from tests.training.helpers import items, learner


def packed(tokens: int, *, rows: int = 2) -> Size:
    return Size(tokens=tokens, supervised=1, longest=tokens, rows=rows, reads=1)


def padded(longest: int, *, rows: int = 2) -> Size:
    return Size(tokens=rows * longest, supervised=1, longest=longest, rows=rows, reads=1, padded=True)


def test_the_fewest_passes_and_even_ones_by_hand() -> None:
    """18 tokens need two passes of 9; 5 and 4 go first, one to each, then 3 to the emptier, 3 to the other, 2 and 1 fill both up."""
    assert plan([packed(tokens) for tokens in (5, 4, 3, 3, 2, 1)], 9) == [[0, 3, 5], [1, 2, 4]]


def test_a_group_beyond_the_budget_stands_alone() -> None:
    assert plan([packed(tokens) for tokens in (3, 20, 3)], 9) == [[0, 2], [1]]


def test_groups_of_like_length_are_padded_together() -> None:
    """Two rows of 10 and two of 2: together they would be padded to 80 tokens, sorted they take 40 and 8."""
    assert plan([padded(longest) for longest in (10, 2, 10, 2)], 40) == [[0, 2], [1, 3]]
    assert (padded(10) + padded(2)).tokens == 40


def test_padded_passes_are_even() -> None:
    """Eight groups of 4 tokens and a budget of 28 need two passes; seven and one would hold them too, four and four are even."""
    assert plan([padded(2) for _ in range(8)], 28) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_without_a_budget_there_is_one_pass_and_of_nothing_none() -> None:
    assert plan([packed(5), packed(6)], None) == [[0, 1]]
    assert plan([], 7) == []
    assert plan([], None) == []


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.booleans())
def test_every_group_once_and_no_pass_beyond_the_budget(tokens: list[int], budget: int, with_padding: bool) -> None:
    sizes = [padded(one) if with_padding else packed(one) for one in tokens]
    passes = plan(sizes, budget)
    assert sorted(index for one in passes for index in one) == list(range(len(sizes)))
    assert passes == sorted(sorted(one) for one in passes)
    for one in passes:
        assert len(one) == 1 or reduce(add, (sizes[index] for index in one)).tokens <= budget
    small = sum(size.tokens for size in sizes if size.tokens <= budget)
    if not with_padding:
        large = sum(size.tokens > budget for size in sizes)
        assert len(passes) - large <= 2 * small / budget + 1, "two passes that could be one are one"


def test_the_next_attempt_by_hand() -> None:
    budget = Budget(1000)
    assert budget.after([packed(800)]) == Budget(400), "half of what failed"
    assert budget.after([packed(800), packed(300)]) == Budget(150), "on several ranks, the smallest decides"
    assert budget.after([packed(5000, rows=1)]) == Budget(1000, 4999), "a row of its own says nothing about passes below it"
    assert budget.after([packed(600, rows=1)]) == Budget(599, 599)
    assert Budget().after([packed(800)]) == Budget(400)
    assert Budget(1).after([packed(1)]) == Budget(1), "no smaller than a token"


@pytest.mark.parametrize("layout", ["shared", "plain"])
@pytest.mark.parametrize("budget", [1, 130, 400])
def test_the_whole_has_the_order_of_the_items_however_it_is_cut(layout: str, budget: int) -> None:
    """With rows that read another group's response too; in plain layout groups are sorted by length for their passes."""
    policy = tiny.policy(dtype=torch.float64, layout=layout)
    batch = items(7, k=3)
    whole = learner(policy, ["kto", "dpo"]).whole(batch)
    cut = learner(policy, ["kto", "dpo"], tokens_per_pass=budget).whole(batch)
    for name, column in whole.columns.items():
        if column.is_floating_point():
            assert torch.allclose(cut.columns[name], column, rtol=1e-9, atol=1e-9), name
        else:
            assert torch.equal(cut.columns[name], column), name
    assert cut.num_groups == 7


def test_in_order_undoes_any_order_of_groups() -> None:
    made = learner(tiny.policy(), ["kto"])
    batch = items(5, k=2)
    whole = made.whole(batch)
    order = [3, 0, 4, 1, 2]
    # rows of another group's response depend on their neighbours, so that only those of the main role are compared
    shuffled = made.whole([batch[index] for index in order])
    main, back = whole.only(whole.rows()), in_order(shuffled.only(shuffled.rows()), order, 5)
    for name in ("group", "response", "pairs", "label", "demo"):
        assert torch.equal(back.get(name), main.get(name)), name
    assert torch.allclose(back.get("logp"), main.get("logp"), atol=1e-4)


@pytest.mark.parametrize("layout", ["shared", "plain"])
def test_a_size_is_what_is_then_computed(layout: str) -> None:
    policy, batch = tiny.policy(layout=layout), items(4, k=3)
    groups = [item.group for item in batch]
    for first in range(4):
        rows = tiny.rows(groups)[3 * first : 3 * first + 3]
        size, encoded = policy.size(groups, rows), policy.collate(groups, rows)
        tokens = [policy.tokens(groups[row.group], row) for row in rows]
        lengths = [(len(one.prompt_ids), len(one.response_ids)) for one in tokens]
        assert size.tokens == encoded.num_tokens == (3 * max(map(sum, lengths)) if layout == "plain" else lengths[0][0] + sum(r for _, r in lengths))
        assert size.supervised == int(encoded.mask.sum())
        assert (size.longest, size.rows) == (max(map(sum, lengths)), 3)
        reads = [sum(range(1, p + r + 1)) for p, r in lengths]
        assert size.reads == sum(reads) - (2 * sum(range(1, lengths[0][0] + 1)) if layout == "shared" else 0)
