"""Responses to imitate."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals._numbers import numbers
from attune.signals._verdicts import verdicts

By = Literal["verdicts", "ratings", "scores"]


def demonstrations(
    group: Group,
    *,
    which: Literal["only", "all", "best"] = "only",
    above: float | None = None,
    by: By = "verdicts",
    aspect: str | None = None,
    criterion: str | None = None,
) -> Signal:
    """Picks the responses that are worth imitating; the others are counted as left out.

    Args:
        group: a prompt with its responses.
        which: "only": the response of a group that has just one; "all": every response; "best": those with the highest merit.
        above: only responses whose merit exceeds it; None: no limit. With which="all" and by="scores" this is rejection sampling.
        by: what merit is: how many verdicts put the response first (one that calls all bad has no best), its mean rating,
            or a program's score.
        aspect: which rating or score; None: the overall one, or else the mean over aspects.
        criterion: only verdicts on this criterion; None: all.

    Returns:
        Demonstrations, by index of the response.
    """
    picked = list(range(len(group.responses)))
    dropped: Counter[str] = Counter()
    if which == "only" and len(picked) > 1:
        return Signal(dropped={"response: one of several, and nothing says which to imitate": len(picked)})
    if which == "best" or above is not None:
        merits, dropped = _merits(group, by, aspect, criterion)
        best = max(merits.values(), default=0.0)
        picked = [response for response, merit in merits.items() if (which != "best" or merit == best) and (above is None or merit > above)]
        dropped["response: not the best" if above is None else "response: not above the limit"] += len(merits) - len(picked)
    return Signal(demos=tuple(sorted(picked)), dropped=dict(+dropped))


def _merits(group: Group, by: By, aspect: str | None, criterion: str | None) -> tuple[dict[int, float], Counter[str]]:
    """Returns response -> merit, of those that were judged at all, and what was left out."""
    if by != "verdicts":
        values, _, dropped = numbers(group, by=by, aspect=aspect)
        return values, dropped
    found, dropped = verdicts(group, criterion)
    firsts: dict[int, float] = {}
    for verdict in found:
        if verdict.both_bad:
            dropped["verdict: all bad"] += 1
            continue
        for tier, members in enumerate(verdict.tiers):
            for response in members:
                firsts[response] = firsts.get(response, 0.0) + (tier == 0)
    dropped["response: in no verdict that has a best"] += len(group.responses) - len(firsts)
    return firsts, dropped
