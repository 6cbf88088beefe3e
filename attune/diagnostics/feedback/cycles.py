"""Verdicts that no ranking can follow: A beats B, B beats C, C beats A."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Level, many, ref
from attune.diagnostics.judgments import identities, judgments
from attune.ops.graphs import shortest_cycle, triads

CHANCE = 0.75
"""Transitivity of random verdicts: of the eight outcomes of three comparisons, two go round."""

NUM_ENOUGH = 20
"""Decided triples from which on a transitivity at chance level means that the verdicts are random."""

Edges = list[tuple[int, int]]


def cycles(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "cycles" (within one annotator's verdicts of a group) and "majority_cycles" (within the majority's, where several annotators speak).

    An edge goes from the response that won more of the comparisons of two to the other one; equal texts are one response. What
    contradicts itself outright is no edge and is left to the probe of contradictions. Only groups in which three responses were compared with each other count.
    """
    own: list[tuple[Group, str, Edges]] = []
    majority: list[tuple[Group, str, Edges]] = []
    for group in groups:
        if len(group.responses) < 3:
            continue
        votes = _votes(group)
        own += [(group, f"{name}: ", _edges(balance)) for (name, _), balance in votes.items()]
        for criterion in dict.fromkeys(criterion for _, criterion in votes):
            voters = [balance for (_, other), balance in votes.items() if other == criterion]
            if len(voters) > 1:
                majority.append((group, "", _edges(_sum(voters))))
    found = [_finding("cycles", "one annotator", own), _finding("majority_cycles", "the majority of several annotators", majority)]
    return tuple(finding for finding in found if finding is not None)


def _votes(group: Group) -> dict[tuple[str, str | None], dict[tuple[int, int], int]]:
    """Returns, an annotator and criterion, the wins less the losses of each two responses of a group (of equal texts the first stands for all)."""
    names = identities(group)
    votes: dict[tuple[str, str | None], dict[tuple[int, int], int]] = {}
    for judgment in judgments([group]):
        first, second = names.index(names[judgment.first]), names.index(names[judgment.second])
        if first == second:
            continue
        balance = votes.setdefault((judgment.annotator, judgment.criterion), {})
        sign = 1 if first < second else -1
        pair = (min(first, second), max(first, second))
        balance[pair] = balance.get(pair, 0) + sign * judgment.order
    return votes


def _sum(votes: Sequence[dict[tuple[int, int], int]]) -> dict[tuple[int, int], int]:
    return {pair: sum(balance.get(pair, 0) for balance in votes) for pair in {pair for balance in votes for pair in balance}}


def _edges(balance: dict[tuple[int, int], int]) -> Edges:
    return [pair if won > 0 else (pair[1], pair[0]) for pair, won in sorted(balance.items()) if won]


def _finding(name: str, whose: str, graphs: Sequence[tuple[Group, str, Edges]]) -> Finding | None:
    counted = [(group, prefix, shortest_cycle(edges), triads(edges)) for group, prefix, edges in graphs]
    num_decided, num_cyclic = sum(triad.num_decided for *_, triad in counted), sum(triad.num_cyclic for *_, triad in counted)
    # a cycle of four or more may run through comparisons that form no decided triple
    num_able = sum(bool(triad.num_decided) or cycle is not None for *_, cycle, triad in counted)
    if not num_able:
        return None
    records = tuple(
        ref(group, prefix + " beats ".join(f"response {index}" for index in (*cycle, cycle[0]))) for group, prefix, cycle, _ in counted if cycle is not None
    )
    transitivity = 1 - num_cyclic / num_decided if num_decided else None
    said = f"of {many(num_able, 'set')} of verdicts by {whose}, {len(records):,} hold a cycle"
    if transitivity is not None:
        said += f"; {100 * transitivity:.1f} % of {many(num_decided, 'decided triple')} are transitive ({100 * CHANCE:.0f} % by chance)"
    random = num_decided >= NUM_ENOUGH and num_cyclic >= (1 - CHANCE) * num_decided
    level: Level = "error" if random else "ok" if not records else "note" if name == "majority_cycles" else "warn"
    return Finding(
        name=name,
        level=level,
        headline=said,
        numbers={
            "sets": num_able,
            "cyclic": len(records),
            "triples": num_decided,
            "cyclic_triples": num_cyclic,
            "transitivity": transitivity,
            "chance": CHANCE,
        },
        records=records,
        mend="ask again about the comparisons of the cycles, or train on the ranking that breaks the fewest of them" if records else "",
    )
