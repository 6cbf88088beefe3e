"""The best against the worst."""

from __future__ import annotations

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals.pairs._rankings import By, Ties, choose, rankings


def best_worst(group: Group, *, by: By = "verdicts", aspect: str | None = None, criterion: str | None = None, ties: Ties = "drop") -> Signal:
    """Pairs the best responses of a ranking with its worst ones; what lies between is counted as left out.

    Args:
        group: responses with verdicts, ratings or scores.
        by: what ranks them: each verdict for itself, the mean rating, or a program's score.
        aspect: which rating or score; None: the overall one, or else the mean over aspects.
        criterion: only verdicts on this criterion; None: all.
        ties: what becomes of a ranking in which all are equal: "drop", or "keep" as pairs with target 1/2.

    Returns:
        Pairs, the better response first; the strength is the difference of ratings or scores, or the verdict's own.
    """
    found, dropped = rankings(group, by=by, aspect=aspect, criterion=criterion)
    return choose(found, dropped, ties=ties, reason="pair: not best against worst", wanted=lambda above, below, last: above == 0 and below == last)
