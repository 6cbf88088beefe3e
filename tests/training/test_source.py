"""Which items make which update, and what was left out."""

from __future__ import annotations

from collections import Counter

from attune.core.record import Group, Prompt, Response, Verdict
from attune.core.signal import Pair, Signal
from attune.signals.pairs.all_pairs import all_pairs
from attune.training.source import Order, take, usable, without
from tests import tiny


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
