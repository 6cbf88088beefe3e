"""Mixing sources: proportions, order, and what happens at the end of one."""

from __future__ import annotations

from collections import Counter

import pytest

from attune.core.errors import ConfigError
from attune.core.record import Group
from attune.data.mix import mix


def source(name: str, num: int) -> list[Group]:
    return [Group(id=f"{name}{number}") for number in range(num)]


def test_dropping_gives_every_group_once_in_its_order() -> None:
    made = [group.id for group in mix({"a": source("a", 7), "b": source("b", 40)}, {"a": 1, "b": 1}, when_exhausted="drop")]
    assert sorted(made) == sorted(group.id for group in source("a", 7) + source("b", 40))
    assert [name for name in made if name[0] == "b"] == [f"b{number}" for number in range(40)]


def test_stopping_ends_with_the_first_source_that_ends() -> None:
    counts = Counter(group.id[0] for group in mix({"a": source("a", 5), "b": source("b", 10**4)}, {"a": 1, "b": 3}, when_exhausted="stop"))
    assert counts["a"] == 5
    assert counts["b"] < 200


def test_restarting_ends_when_all_were_seen_whole() -> None:
    made = Counter(group.id for group in mix({"a": source("a", 3), "b": source("b", 60)}, {"a": 1, "b": 1}, when_exhausted="restart"))
    assert all(made[f"b{number}"] == 1 for number in range(60))
    repeats = [made[f"a{number}"] for number in range(3)]
    assert min(repeats) >= 10
    assert max(repeats) - min(repeats) <= 1


def test_proportions_follow_the_weights() -> None:
    counts = Counter(group.id[0] for group in mix({"a": source("a", 4000), "b": source("b", 4000)}, {"a": 3, "b": 1}, when_exhausted="stop"))
    # "a" ends first, after 4000 of its own; "b" has a third of that, standard deviation sqrt(4000 / 3 * (1 + 1 / 3)) = 42: five of them
    assert counts["a"] == 4000
    assert abs(counts["b"] - 4000 / 3) < 210


def test_the_seed_decides_the_order() -> None:
    orders = [
        [group.id for group in mix({"a": source("a", 20), "b": source("b", 20)}, {"a": 1, "b": 1}, when_exhausted="drop", seed=seed)] for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("weights", "policy", "field"),
    [
        ({"a": 1}, "stop", "weights"),
        ({"a": 1, "b": 0}, "stop", "weights.b"),
        ({"a": 1, "b": float("nan")}, "stop", "weights.b"),
        ({"a": 1, "b": 1}, "loop", "when_exhausted"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(weights: dict[str, float], policy: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mix({"a": source("a", 1), "b": source("b", 1)}, weights, when_exhausted=policy)
    assert caught.value.field == field


def test_a_source_that_cannot_start_over_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sources\.a"):
        list(mix({"a": iter(source("a", 1)), "b": source("b", 50)}, {"a": 1, "b": 1}, when_exhausted="restart"))
