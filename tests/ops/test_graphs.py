"""Preference graphs against networkx and by enumeration."""

from __future__ import annotations

from itertools import combinations, permutations

import networkx as nx
import numpy as np
import pytest

from attune.core.record import Verdict
from attune.ops.graphs import count_verdicts, majority_edges, shortest_cycle, strong_components, triads


def random_edges(num: int, share: float, seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    return [(i, j) for i in range(num) for j in range(num) if i != j and rng.random() < share]


@pytest.mark.parametrize("seed", range(20))
def test_strong_components_equal_networkx(seed: int) -> None:
    edges = random_edges(12, 0.12, seed)
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(12))
    assert {frozenset(s) for s in strong_components(edges, range(12))} == {frozenset(s) for s in nx.strongly_connected_components(graph)}


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_cycle_is_a_cycle_and_none_is_shorter(seed: int) -> None:
    edges = random_edges(7, 0.2, seed)
    found = shortest_cycle(edges)
    known = set(edges)
    lengths = [k for k in range(2, 8) if any(all((p[i], p[(i + 1) % k]) in known for i in range(k)) for p in permutations(range(7), k))]
    if not lengths:
        assert found is None
        return
    assert found is not None
    assert len(found) == len(set(found)) == lengths[0]
    assert all((a, b) in known for a, b in zip(found, (*found[1:], found[0]), strict=True))


def test_small_cycles_by_hand() -> None:
    assert shortest_cycle([("a", "b"), ("b", "c"), ("a", "c")]) is None
    assert shortest_cycle([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("c", "a")]) == ("a", "b", "c")
    assert shortest_cycle([("a", "b"), ("b", "c"), ("c", "a"), ("x", "y"), ("y", "x")]) == ("x", "y")
    assert shortest_cycle([("a", "a")]) == ("a",)
    assert shortest_cycle([]) is None
    assert strong_components([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_cyclic_triads_of_a_tournament_follow_kendall(seed: int) -> None:
    # C(n, 3) - sum C(wins_i, 2) triples of a tournament are cyclic
    rng = np.random.default_rng(seed)
    edges = [(i, j) if rng.random() < 0.5 else (j, i) for i, j in combinations(range(15), 2)]
    wins = [sum(winner == node for winner, _ in edges) for node in range(15)]
    result = triads(edges)
    assert result.num_decided == 455
    assert result.num_cyclic == 455 - sum(w * (w - 1) // 2 for w in wins)
    assert result.transitivity == pytest.approx(1 - result.num_cyclic / 455)


def test_triads_of_an_incomplete_graph_equal_the_census() -> None:
    edges = random_edges(20, 0.3, 1)
    mutual = {(a, b) for a, b in edges if (b, a) in set(edges)}
    census = nx.triadic_census(nx.DiGraph([edge for edge in edges if edge not in mutual]))
    result = triads(edges)
    assert (result.num_cyclic, result.num_decided) == (census["030C"], census["030C"] + census["030T"])


def test_nothing_decided_has_no_transitivity() -> None:
    result = triads([("a", "b"), ("b", "a")])
    assert (result.num_decided, result.to_dict()["transitivity"]) == (0, None)


def test_counts_of_verdicts_and_their_majority() -> None:
    verdicts = [Verdict(tiers=((0,), (1, 2))), Verdict(tiers=((1,), (0,))), Verdict(tiers=((0,), (1,))), Verdict(tiers=((2,), (0,)))]
    wins, ties = count_verdicts(verdicts, 3)
    assert wins.tolist() == [[0, 2, 1], [1, 0, 0], [1, 0, 0]]
    assert ties.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert majority_edges(wins) == [(0, 1)]
