"""Rankings, from verdicts or from numbers, and the pairs that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from attune.core.record import Group
from attune.core.signal import Pair, Signal
from attune.signals._numbers import numbers
from attune.signals._verdicts import verdicts

Ties = Literal["drop", "keep"]
By = Literal["verdicts", "ratings", "scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Responses from best to worst, as one voice put them."""

    tiers: Sequence[Sequence[int]]
    annotator: str | None = None
    strength: float | None = None
    # of a verdict; it speaks of the first tier, so it is that of a pair only where there are two tiers
    values: Mapping[int, float] = field(default_factory=dict)
    # what the ranking was made from; empty: a verdict

    def pair(self, first: int, second: int, *, tie: bool) -> Pair:
        if tie:
            return Pair(first=first, second=second, target=0.5, tie=True, annotator=self.annotator)
        strength = self.values[first] - self.values[second] if self.values else self.strength if len(self.tiers) == 2 else None
        return Pair(first=first, second=second, strength=strength, annotator=self.annotator)

    def implied(self) -> Iterator[tuple[int, int, Pair]]:
        """Yields every pair of ranked responses, better one first, after the tiers of the two."""
        for above, better in enumerate(self.tiers):
            for below in range(above, len(self.tiers)):
                for place, first in enumerate(better):
                    for second in self.tiers[below][place + 1 :] if below == above else self.tiers[below]:
                        yield above, below, self.pair(first, second, tie=below == above)


def rankings(group: Group, *, by: By, aspect: str | None = None, criterion: str | None = None) -> tuple[list[Ranking], Counter[str]]:
    """Returns one ranking a verdict, or the one that ratings or scores make, and what was left out."""
    if by == "verdicts":
        found, dropped = verdicts(group, criterion)
        return [Ranking(tiers=verdict.tiers, annotator=verdict.annotator, strength=verdict.strength) for verdict in found], dropped
    values, _, dropped = numbers(group, by=by, aspect=aspect)
    levels = sorted(set(values.values()), reverse=True)
    tiers = [[index for index, value in values.items() if value == level] for level in levels]
    return [Ranking(tiers=tiers, values=values)], dropped


def choose(found: Sequence[Ranking], dropped: Counter[str], *, ties: Ties, reason: str, wanted: Callable[[int, int, int], bool]) -> Signal:
    """Returns the implied pairs that are wanted and the account of the others.

    Args:
        found: rankings.
        dropped: what was left out before.
        ties: whether equal responses make a pair with target 1/2 or none.
        reason: said of pairs that are not wanted.
        wanted: (tier of the first, tier of the second, last tier) -> whether the pair is.
    """
    pairs = []
    for ranking in found:
        for above, below, pair in ranking.implied():
            if not wanted(above, below, len(ranking.tiers) - 1):
                dropped[reason] += 1
            elif pair.tie and ties == "drop":
                dropped["pair: tie"] += 1
            else:
                pairs.append(pair)
    return Signal(pairs=tuple(pairs), dropped=dict(dropped))
