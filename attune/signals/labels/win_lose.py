"""Binary labels from verdicts."""

from __future__ import annotations

from collections import Counter

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals._verdicts import verdicts


def win_lose(group: Group, *, criterion: str | None = None) -> Signal:
    """Labels what verdicts put first as desirable and what they put last as undesirable, so that pairs can feed a pointwise objective.

    A verdict that calls all of them bad makes each undesirable; any other verdict without a winner says nothing here.
    Where verdicts disagree about a response, the majority decides.

    Args:
        group: responses with verdicts.
        criterion: only verdicts on this criterion; None: all.

    Returns:
        One label a response at most; middle ranks, ties and even votes are counted as left out.
    """
    found, dropped = verdicts(group, criterion)
    balance: Counter[int] = Counter()
    for verdict in found:
        named = [response for tier in verdict.tiers for response in tier]
        if verdict.both_bad:
            balance.update(dict.fromkeys(named, -1))
        elif len(verdict.tiers) == 1:
            dropped["verdict: tie"] += 1
        else:
            balance.update(dict.fromkeys(verdict.tiers[0], 1))
            balance.update(dict.fromkeys(verdict.tiers[-1], -1))
            dropped["response: neither first nor last"] += len(named) - len(verdict.tiers[0]) - len(verdict.tiers[-1])
    dropped["response: as often first as last"] = sum(votes == 0 for votes in balance.values())
    return Signal(labels={response: votes > 0 for response, votes in sorted(balance.items()) if votes}, dropped=dict(+dropped))
