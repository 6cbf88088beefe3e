"""Pairs from ratings or scores that differ enough."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

from attune.core.record import Group
from attune.core.signal import Pair, Signal
from attune.core.spec import Range
from attune.signals._numbers import By, numbers
from attune.signals.pairs._rankings import Ties


def threshold(
    group: Group, *, min_gap: Annotated[float, Range("[0, inf)")] = 0.0, by: By = "ratings", aspect: str | None = None, ties: Ties = "drop"
) -> Signal:
    """Pairs every two responses whose numbers differ by more than a gap; an abstained or absent number is missing, never 0.

    Args:
        group: responses with ratings or scores.
        min_gap: the difference must exceed it, in the unit of the ratings or scores.
        by: "ratings", averaged over annotators, or "scores" of programs and models.
        aspect: which one; None: the overall one, or else the mean over aspects.
        ties: what becomes of two responses within the gap: "drop", or "keep" as a pair with target 1/2.

    Returns:
        Pairs, the better response first, with the difference as their strength.
    """
    values, _, dropped = numbers(group, by=by, aspect=aspect)
    pairs = []
    for one, other in combinations(values, 2):
        first, second = (one, other) if values[one] >= values[other] else (other, one)
        gap = values[first] - values[second]
        if gap > min_gap:
            pairs.append(Pair(first=first, second=second, strength=gap))
        elif ties == "keep":
            pairs.append(Pair(first=one, second=other, target=0.5, tie=True))
        else:
            dropped["pair: gap not above the threshold"] += 1
    return Signal(pairs=tuple(pairs), dropped=dict(dropped))
