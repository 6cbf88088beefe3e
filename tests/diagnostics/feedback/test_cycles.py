from __future__ import annotations

from itertools import combinations

import pytest

from attune.core.record import Group
from attune.diagnostics.feedback.cycles import cycles
from tests.diagnostics.make import clean, group, said, won


def test_a_cycle_of_three_is_found_exactly() -> None:
    round_ = group("c0", "a", "b", "c", "d", verdicts=[won(0, 1, by="ann"), won(1, 2, by="ann"), won(2, 0, by="ann"), won(0, 3, by="ann")])
    straight = group("c1", "a", "b", "c", verdicts=[won(0, 1, by="ann"), won(1, 2, by="ann"), won(0, 2, by="ann")])
    (found,) = cycles([round_, straight])
    assert [record.id for record in found.records] == ["c0"]
    assert found.records[0].detail == "ann: response 0 beats response 1 beats response 2 beats response 0"
    assert (found.numbers["triples"], found.numbers["cyclic_triples"], found.numbers["transitivity"]) == (2, 1, 0.5)
    assert found.level == "warn"


def test_a_cycle_of_four_without_a_decided_triple_counts_too() -> None:
    square = group("c0", "a", "b", "c", "d", verdicts=[won(0, 1), won(1, 2), won(2, 3), won(3, 0)])
    (found,) = cycles([square])
    assert (found.numbers["sets"], found.numbers["cyclic"], found.numbers["transitivity"]) == (1, 1, None)


def test_the_shortest_cycle_is_shown() -> None:
    # 0 > 1 > 2 > 3 > 0 and the chord 2 > 0
    both = group("c0", "a", "b", "c", "d", verdicts=[won(0, 1), won(1, 2), won(2, 3), won(3, 0), won(2, 0)])
    assert cycles([both])[0].records[0].detail.count("beats") == 3


def test_equal_texts_are_one_response() -> None:
    # 0 beats 1, 1 beats 2, 3 beats 0, and 3 says what 2 says
    merged = group("c0", "a", "b", "c", "c", verdicts=[won(0, 1), won(1, 2), won(3, 0)])
    assert cycles([merged])[0].numbers["cyclic"] == 1


def test_annotators_who_each_rank_may_make_a_majority_that_goes_round() -> None:
    condorcet = group("c0", "a", "b", "c", verdicts=[said((0,), (1,), (2,), by="x"), said((1,), (2,), (0,), by="y"), said((2,), (0,), (1,), by="z")])
    own, majority = cycles([condorcet])
    assert (own.level, own.numbers["sets"], own.numbers["cyclic"]) == ("ok", 3, 0)
    assert (majority.name, majority.level, majority.numbers["cyclic"]) == ("majority_cycles", "note", 1)


def test_a_contradiction_is_no_cycle() -> None:
    undone = group("c0", "a", "b", "c", verdicts=[won(0, 1, by="x"), won(1, 0, by="x"), won(1, 2, by="x"), won(0, 2, by="x")])
    assert cycles([undone]) == ()


def test_rankings_and_pairs_are_quiet() -> None:
    assert cycles(clean()) == ()
    ranked = [group(f"r{index}", "a", "b", "c", verdicts=[said((2,), (0,), (1,), by="x")]) for index in range(5)]
    (found,) = cycles(ranked)
    assert (found.level, found.numbers["transitivity"], found.records) == ("ok", 1.0, ())


def test_verdicts_at_chance_level_are_an_error() -> None:
    """All eight outcomes of three comparisons, three times: 6 of 24 triples go round."""
    groups: list[Group] = []
    for outcome in [*range(8)] * 3:
        verdicts = [won(*(pair if outcome >> place & 1 else pair[::-1])) for place, pair in enumerate(combinations(range(3), 2))]
        groups.append(group(f"r{len(groups)}", "a", "b", "c", verdicts=verdicts))
    (found,) = cycles(groups)
    assert found.numbers["transitivity"] == pytest.approx(0.75)
    assert found.level == "error"
