"""Which items make which update, and what was left out."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from attune.core.record import Group, Prompt, Response, Verdict
from attune.core.signal import Pair, Signal
from attune.signals.pairs.all_pairs import all_pairs
from attune.training.source import Drawn, Item, Order, shuffled, take, usable, without
from tests import tiny
from tests.training.helpers import items


def test_an_epoch_reads_every_item_once_and_epochs_differ() -> None:
    order = Order(10, 4, seed=3, shuffle=True)
    stream = [index for update in range(5) for index in order(update)]
    assert Counter(stream[:10]) == Counter(range(10))
    assert Counter(stream[10:]) == Counter(range(10))
    assert stream[:10] != stream[10:]


def test_the_order_is_a_function_of_the_update_alone() -> None:
    one, other = Order(10, 4, seed=3, shuffle=True), Order(10, 4, seed=3, shuffle=True)
    for update in (7, 2, 7):
        assert one(update) == other(update)
    assert Order(10, 4, seed=4, shuffle=True)(0) != one(0)


@pytest.mark.parametrize("num", [1, 2, 3, 4, 7, 16, 17, 1000, 65_537])
def test_a_shuffle_is_a_permutation_of_any_number(num: int) -> None:
    assert sorted(shuffled(np.arange(num), num, 5).tolist()) == list(range(num))


def test_every_order_of_four_is_as_likely_as_another() -> None:
    """Chi-square over all 24 orders and 2,400 keys: 23 degrees of freedom, 49.7 is exceeded once in a thousand times by chance."""
    seen = Counter(tuple(shuffled(np.arange(4), 4, key).tolist()) for key in range(2400))
    assert set(seen) == set(permutations(range(4)))
    assert sum((num - 100) ** 2 / 100 for num in seen.values()) < 49.7


def test_neighbours_of_a_large_number_are_strewn_evenly() -> None:
    """Where 4,000 neighbours of a million go, in 50 bins, and the distances between them: no trace of their order."""
    num = 1_000_003
    places = shuffled(np.arange(4000), num, 7)
    counts = np.bincount(places * 50 // num, minlength=50)
    assert ((counts - 80) ** 2 / 80).sum() < 85.4  # 49 degrees of freedom, one in a thousand
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 3.3 / 4000**0.5


def test_an_order_is_computed_where_it_is_asked_for() -> None:
    """The billionth update of a set that no memory holds; each place alone says what all places together say."""
    order = Order(10**12, 8, seed=1, shuffle=True)
    far = order(10**9)
    assert [int(order.at(np.array([8 * 10**9 + place]))[0]) for place in range(8)] == far
    assert len(set(far)) == 8 and max(far) < 10**12


def test_items_of_an_update_are_looked_up_when_they_are_asked_for() -> None:
    looked_up: list[int] = []

    class Seen(list[Item]):
        def __getitem__(self, place: Any) -> Any:
            looked_up.append(place)
            return super().__getitem__(place)

    drawn = Drawn(Seen(items(6)), [4, 1, 5])
    assert (len(drawn), looked_up) == (3, [])
    assert drawn[1].group.id == "g1" and looked_up == [1]
    assert [item.group.id for item in drawn[1:]] == ["g1", "g5"]


def test_number_of_updates() -> None:
    assert Order(10, 4, seed=0, shuffle=False).num_updates(1.0) == 3
    assert Order(8, 4, seed=0, shuffle=False).num_updates(1.0) == 2
    assert Order(8, 4, seed=0, shuffle=False).num_updates(0.25) == 1
    assert Order(3, 100, seed=0, shuffle=False)(0) == [0, 1, 2]


def test_what_cannot_be_used_is_counted_with_its_group() -> None:
    policy = tiny.policy(max_response_tokens=12)

    def group(name: str, first: str, tiers: tuple[tuple[int, ...], ...]) -> Group:
        responses = (Response(content=first), Response(content="ab"), Response(content="cd"))
        return Group(id=name, contexts={"main": Prompt(content="q")}, responses=responses, verdicts=(Verdict(tiers=tiers),))

    good = group("good", "xy", ((0,), (1,), (2,)))
    long = group("long", "wörld " * 40, ((0,), (1,), (2,)))
    gone = group("gone", "wörld " * 40, ((0,), (1,)))
    bare = Group(id="bare", responses=(Response(content="a"),))
    tied = group("tied", "xy", ((0, 1), (2,)))
    items, intake = take([good, long, gone, bare, tied], all_pairs, policy, ("pairs",))
    assert [(item.group.id, len(item.signal.pairs)) for item in items] == [("good", 3), ("long", 1), ("tied", 2)]
    assert (intake.groups, intake.kept, intake.responses) == (5, 3, 3 + 2 + 3)
    assert intake.reasons["group: nothing left to train on"] == 1
    assert intake.ids["group: the source holds no prompt"] == ["bare"]
    assert intake.reasons["response: the response has more than 12 tokens"] == 2
    assert sum(num for reason, num in intake.reasons.items() if "tie" in reason or "tied" in reason or "equal" in reason) == 1


def test_a_refused_response_takes_its_pairs_along() -> None:
    signal = Signal(pairs=(Pair(first=0, second=1), Pair(first=1, second=2)), labels={0: True, 1: False}, demos=(0,))
    left = without(signal, {0: "over-long"})
    assert (left.pairs, dict(left.labels), left.demos) == ((Pair(first=1, second=2),), {1: False}, ())
    assert usable(left, ("pairs", "logp"))
    assert not usable(left, ("demo",))
