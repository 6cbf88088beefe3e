"""Preference graphs: who beats whom, whether it can be a ranking, and the shortest proof that it cannot.

A graph is its edges, (winner, loser) pairs of anything hashable; repeated edges count once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from attune.core.record import Verdict
from attune.ops.intervals import IntArray, Result

Node = TypeVar("Node", bound=Hashable)


def count_verdicts(verdicts: Iterable[Verdict], num_responses: int) -> tuple[IntArray, IntArray]:
    """Counts what the verdicts of one group say about each two of its K responses.

    Returns:
        wins [K, K]: how often row beat column; ties [K, K], symmetric: how often the two were called equal.
    """
    wins_KK, ties_KK = (np.zeros((num_responses, num_responses), dtype=np.int64) for _ in range(2))
    for verdict in verdicts:
        for place, tier in enumerate(verdict.tiers):
            worse = [index for later in verdict.tiers[place + 1 :] for index in later]
            for index in tier:
                wins_KK[index, worse] += 1
                ties_KK[index, [other for other in tier if other != index]] += 1
    return wins_KK, ties_KK


def majority_edges(wins_KK: IntArray) -> list[tuple[int, int]]:
    """Returns (i, j) for each two where i beat j more often than the reverse."""
    return [(int(i), int(j)) for i, j in np.argwhere(wins_KK > wins_KK.T)]


def strong_components(edges: Iterable[tuple[Node, Node]], nodes: Iterable[Node] = ()) -> list[tuple[Node, ...]]:
    """Returns the largest sets within which everyone beats everyone along some path.

    Args:
        edges: (winner, loser) pairs.
        nodes: further nodes, so that those without an edge are listed too.

    Returns:
        the sets, and the nodes in each, in order of first mention (`nodes` first). A set of two or more holds a cycle.
    """
    edges = list(edges)
    index = {node: place for place, node in enumerate(dict.fromkeys([*nodes, *(node for edge in edges for node in edge)]))}
    if not index:
        return []
    rows, columns = [index[winner] for winner, _ in edges], [index[loser] for _, loser in edges]
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(index), len(index)))
    _, label_of = connected_components(graph, directed=True, connection="strong")
    sets: dict[int, list[Node]] = {}
    for node, place in index.items():
        sets.setdefault(int(label_of[place]), []).append(node)
    return [tuple(members) for members in sets.values()]


def shortest_cycle(edges: Iterable[tuple[Node, Node]]) -> tuple[Node, ...] | None:
    """Returns a shortest cycle (a, b, ..., z): a beats b, ..., z beats a; None where the edges can be a ranking.

    Two verdicts that contradict each other are a cycle of two. Of several shortest cycles the first in order of mention is returned.
    """
    edges = list(edges)
    best: tuple[Node, ...] | None = next(((winner,) for winner, loser in edges if winner == loser), None)
    for members in strong_components(edges):
        if len(members) < 2:
            continue
        inside = set(members)
        beats: dict[Node, list[Node]] = {node: [] for node in members}
        for winner, loser in edges:
            if winner in inside and loser in inside:
                beats[winner].append(loser)
        for start in members:
            found = _cycle_through(start, beats, math.inf if best is None else len(best))
            best = found or best
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Triads(Result):
    """Triples of which each two were decided, and how many of them go round."""

    num_decided: int
    num_cyclic: int
    transitivity: float
    # share of the decided triples that are a ranking; NaN: none was decided

    def __str__(self) -> str:
        share = "" if math.isnan(self.transitivity) else f" (transitivity {self.transitivity:.3f})"
        return f"{self.num_cyclic} of {self.num_decided} decided triples are cyclic{share}"


def triads(edges: Iterable[tuple[Node, Node]]) -> Triads:
    """Counts triples where a beats b beats c and c beats a, among those of which each two are decided.

    Two nodes that beat each other are undecided. A random tournament has a transitivity of 3/4.
    """
    given = {edge for edge in edges if edge[0] != edge[1]}
    decided = {(winner, loser) for winner, loser in given if (loser, winner) not in given}
    beats: dict[Node, set[Node]] = {}
    beaten_by: dict[Node, set[Node]] = {}
    for winner, loser in decided:
        beats.setdefault(winner, set()).add(loser)
        beaten_by.setdefault(loser, set()).add(winner)
    nobody: set[Node] = set()
    met = {node: beats.get(node, nobody) | beaten_by.get(node, nobody) for edge in decided for node in edge}
    num_cyclic = sum(len(beats.get(loser, nobody) & beaten_by.get(winner, nobody)) for winner, loser in decided) // 3
    num_decided = sum(len(met[winner] & met[loser]) for winner, loser in decided) // 3
    return Triads(num_decided=num_decided, num_cyclic=num_cyclic, transitivity=1 - num_cyclic / num_decided if num_decided else math.nan)


def _cycle_through(start: Node, beats: Mapping[Node, Sequence[Node]], shorter_than: float) -> tuple[Node, ...] | None:
    came_from: dict[Node, Node] = {}
    depth = {start: 1}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if depth[node] >= shorter_than:
            return None
        for loser in beats[node]:
            if loser == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if loser not in depth:
                depth[loser], came_from[loser] = depth[node] + 1, node
                queue.append(loser)
    return None
