"""Neighbours in a ranking."""

from __future__ import annotations

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals.pairs._rankings import By, Ties, choose, rankings


def adjacent_ranks(group: Group, *, by: By = "verdicts", aspect: str | None = None, criterion: str | None = None, ties: Ties = "drop") -> Signal:
    """Pairs each response with those one rank below; the pairs that follow from these are counted as left out.

    Args:
        group: responses with verdicts, ratings or scores.
        by: what ranks them: each verdict for itself, the mean rating, or a program's score.
        aspect: which rating or score; None: the overall one, or else the mean over aspects.
        criterion: only verdicts on this criterion; None: all.
        ties: what becomes of equal responses: "drop", or "keep" as pairs with target 1/2.

    Returns:
        Pairs, the better response first; the strength is the difference of ratings or scores, or the verdict's own.
    """
    found, dropped = rankings(group, by=by, aspect=aspect, criterion=criterion)
    return choose(found, dropped, ties=ties, reason="pair: not of adjacent ranks", wanted=lambda above, below, last: below - above <= 1)
