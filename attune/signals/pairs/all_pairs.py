"""Every pair that a verdict implies."""

from __future__ import annotations

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals.pairs._rankings import Ties, choose, rankings


def all_pairs(group: Group, *, ties: Ties = "drop", criterion: str | None = None) -> Signal:
    """Gives each verdict its own pairs: a verdict that ranks K responses implies K (K-1) / 2 of them.

    Verdicts that repeat or contradict each other each keep their pairs, with their annotator; `vote` merges them.

    Args:
        group: responses with verdicts.
        ties: "drop" counts equal responses as left out, "keep" makes pairs of them with target 1/2.
        criterion: only verdicts on this criterion; None: all.

    Returns:
        Pairs, the better response first; strength where a verdict with two tiers states it.
    """
    found, dropped = rankings(group, by="verdicts", criterion=criterion)
    return choose(found, dropped, ties=ties, reason="", wanted=lambda above, below, last: True)
