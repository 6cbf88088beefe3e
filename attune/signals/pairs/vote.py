"""Several verdicts on one pair, merged into a share."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

from attune.core.record import Group
from attune.core.signal import Pair, Signal
from attune.core.spec import Range
from attune.signals.pairs._rankings import Ties, rankings


def vote(group: Group, *, min_votes: Annotated[int, Range("[1, inf)")] = 1, ties: Ties = "drop", criterion: str | None = None) -> Signal:
    """Makes one pair of all verdicts on the same two responses, whose target is the share that prefers the first; a tie is half a vote.

    Args:
        group: responses with verdicts, of several annotators or of one who was asked twice.
        min_votes: pairs with fewer verdicts are left out.
        ties: what becomes of a pair that every verdict calls a tie: "drop", or "keep" with target 1/2.
        criterion: only verdicts on this criterion; None: all.

    Returns:
        Pairs without annotator, the majority's choice first (the earlier response where votes are even);
        the strength is the mean over verdicts where all agree and state one.
    """
    found, dropped = rankings(group, by="verdicts", criterion=criterion)
    votes: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for ranking in found:
        for _, _, pair in ranking.implied():
            votes[min(pair.first, pair.second), max(pair.first, pair.second)].append(pair)
    pairs = []
    for (one, other), ballots in sorted(votes.items()):
        if len(ballots) < min_votes:
            dropped["verdict: too few votes on its pair"] += len(ballots)
        elif ties == "drop" and all(ballot.tie for ballot in ballots):
            dropped["verdict: all call the pair a tie"] += len(ballots)
        else:
            pairs.append(_merged(one, other, ballots))
    return Signal(pairs=tuple(pairs), dropped=dict(dropped))


def _merged(one: int, other: int, ballots: list[Pair]) -> Pair:
    share = sum(0.5 if ballot.tie else float(ballot.first == one) for ballot in ballots) / len(ballots)
    first, second, target = (one, other, share) if share >= 0.5 else (other, one, 1 - share)
    strengths = [ballot.strength for ballot in ballots if ballot.strength is not None and ballot.first == first]
    agreed = len(strengths) == len(ballots)
    return Pair(
        first=first, second=second, target=target, tie=all(ballot.tie for ballot in ballots), strength=sum(strengths) / len(strengths) if agreed else None
    )
