"""Layouts laid out by hand: who sees whom, at which position, and which place predicts which token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.policies import packing
from attune.policies.packing import Line, pack, row_key, segments
from attune.policies.templates import Tokens


def row(prompt: tuple[int, ...], response: tuple[int, ...], supervised: tuple[bool, ...] | None = None) -> Tokens:
    return Tokens(prompt, response, supervised or (True,) * len(response), 0, 0)


FIRST = row((11, 12), (21, 22))
SECOND = row((13,), (31, 32, 33), (True, False, True))
THIRD = row((11, 12), (41,))


@pytest.fixture
def share_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SHARED_TOKENS", 1)


def seen(line: Line) -> list[list[int]]:
    """Who sees whom, written out from the sights: k <= q < sight[k]."""
    sight = line.sight[0].tolist()
    return [[int(key <= query < sight[key]) for key in range(len(sight))] for query in range(len(sight))]


@pytest.mark.usefixtures("share_all")
def test_shared_by_hand() -> None:
    packed = pack([FIRST, SECOND, THIRD], "shared")
    line = packed.line
    assert line.ids.tolist() == [[11, 12, 21, 22, 41, 13, 31, 32, 33]]
    assert line.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 3]]
    assert seen(line) == [
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


@pytest.mark.usefixtures("share_all")
def test_a_tree_of_turns_by_hand() -> None:
    # one conversation: a turn 1 2, two replies 3 4 | 5, and behind the first reply a second turn 6 with two replies 7 | 8 9
    rows = [row((1, 2), (3, 4)), row((1, 2), (5,)), row((1, 2, 3, 4, 6), (7,)), row((1, 2, 3, 4, 6), (8, 9))]
    packed = pack(rows, "shared")
    assert packed.line.ids.tolist() == [[1, 2, 3, 4, 6, 7, 8, 9, 5]]
    assert packed.line.positions.tolist() == [[0, 1, 2, 3, 4, 5, 5, 6, 2]]
    assert packed.line.sight.tolist() == [[9, 9, 8, 8, 8, 6, 8, 8, 9]]
    assert packed.last.tolist() == [3, 8, 5, 7]
    assert packed.predicting.tolist() == [1, 2, 1, 4, 4, 6]
    assert segments(rows) == [(0, 2), (2, 4), (4, 5), (5, 6), (5, 7), (2, 3)]
    assert packed.num_tokens == 9


def test_plain_by_hand() -> None:
    packed = pack([FIRST, SECOND, THIRD], "plain")
    assert packed.line.ids.tolist() == [[11, 12, 21, 22], [13, 31, 32, 33], [11, 12, 41, 0]]
    assert packed.line.positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 0]]
    assert packed.line.attention().tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert packed.predicting.tolist() == [1, 2, 4, 6, 9]
    assert packed.last.tolist() == [3, 7, 10]
    assert packed.num_tokens == 12


def test_a_prefix_too_short_to_pay_is_not_shared() -> None:
    length = packing.SHARED_TOKENS
    short, long = (tuple(range(1, size)) for size in (length, length + 1))
    assert pack([row(short, (50,)), row(short, (60,))], "shared").num_tokens == 2 * length
    assert pack([row(long, (50,)), row(long, (60,))], "shared").num_tokens == length + 2


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.lists(st.integers(0, 2), min_size=1, max_size=6)), min_size=1, max_size=9))
def test_any_rows_are_read_whole_and_shared_prefixes_once(drawn: list[tuple[list[int], list[int]]]) -> None:
    rows = [row(tuple(prompt), tuple(response)) for prompt, response in drawn]
    texts = [one.prompt_ids + one.response_ids for one in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARED_TOKENS", 1)
        packed = pack(rows, "shared")
    assert packed.num_tokens == len({text[:end] for text in texts for end in range(1, len(text) + 1)})  # one token for each different prefix
    ids, positions, sees = packed.line.ids[0].tolist(), packed.line.positions[0].tolist(), seen(packed.line)
    for text, last in zip(texts, packed.last.tolist(), strict=True):
        path = [key for key, visible in enumerate(sees[last]) if visible]
        assert tuple(ids[key] for key in path) == text
        assert [positions[key] for key in path] == list(range(len(text)))
    predicted = iter(zip(packed.predicting.tolist(), packed.targets.tolist(), strict=True))
    for text, one in zip(texts, rows, strict=True):
        for step in range(len(one.response_ids)):
            place, target = next(predicted)
            before = text[: len(one.prompt_ids) + step]
            assert tuple(ids[key] for key, visible in enumerate(sees[place]) if visible) == before
            assert target == one.response_ids[step]


@pytest.mark.usefixtures("share_all")
def test_equal_rows_are_computed_once_and_both_answered() -> None:
    packed = pack([FIRST, THIRD, FIRST], "shared")
    assert packed.num_tokens == 5
    assert packed.predicting.tolist() == [1, 2, 1, 1, 2]
    assert packed.keys[0] == packed.keys[2] != packed.keys[1]


def test_a_key_tells_apart_where_the_response_begins_and_what_is_supervised() -> None:
    rows = [row((1, 2), (3,)), row((1,), (2, 3)), row((1,), (2, 3), (True, False)), row((12,), (3,))]
    assert len({row_key(one) for one in rows}) == 4
