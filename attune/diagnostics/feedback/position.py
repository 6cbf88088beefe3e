"""Whether the place in which a response is shown decides: the share of preferred responses that came first, and verdicts in both orders."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Level, many, percent, resamples, worst
from attune.diagnostics.judgments import Judgment, decided, judgments, kind
from attune.ops.agreement import OrderConsistency, order_consistency
from attune.ops.intervals import Estimate, share_estimate, wilson

STRONG = 0.1
"""How far from one half the share must surely be to say that the place, and not the text, drives verdicts."""

NUM_BOTH = 10
"""Comparisons in both orders that an annotator must have made to be called inconsistent."""

CONSISTENT = 0.8
"""Share of verdicts that should survive when the two texts change places."""


def position(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "position" (where the order of showing is known) and "order" (where annotators saw the same two texts in both orders).

    "position": of decided comparisons, the share in which the text shown first was preferred. The interval is Wilson's where every prompt was
    compared once, else a bootstrap by prompt. Gold labels were shown nothing and do not count.
    """
    shown = [judgment for judgment in judgments(groups) if judgment.verdict.presented and kind(judgment.verdict.annotator) != "gold"]
    clear = decided(shown)
    found = []
    if clear:
        found.append(_first(clear))
    both = _both_orders(shown)
    if both:
        found.append(_order(both))
    return tuple(found)


def _was_first(judgment: Judgment) -> bool:
    presented = judgment.verdict.presented
    assert presented is not None
    return presented.index(judgment.preferred) < presented.index(judgment.dispreferred)


def _share(clear: Sequence[Judgment]) -> Estimate:
    wins = [_was_first(judgment) for judgment in clear]
    clusters = [id(judgment.group) for judgment in clear]
    num = len(set(clusters))
    return wilson(sum(wins), len(wins)) if num == len(wins) else share_estimate(wins, clusters=clusters, num_resamples=resamples(num))


def _first(clear: Sequence[Judgment]) -> Finding:
    share = _share(clear)
    names = sorted({judgment.annotator for judgment in clear})
    by_annotator = {name: _share([judgment for judgment in clear if judgment.annotator == name]) for name in names}
    level = worst(map(_level, (share, *by_annotator.values()) if len(names) <= 10 else (share,)))
    said = f"the response shown first was preferred in {percent(share)} of {many(len(clear), 'decided comparison')}"
    leaning = max(by_annotator, key=lambda name: abs(by_annotator[name].value - 0.5))
    if len(names) > 1:
        said += f"; most lopsided: {leaning}, {percent(by_annotator[leaning])}"
    return Finding(
        name="position",
        level=level,
        headline=said,
        numbers={"comparisons": len(clear), "share": share, "by_annotator": by_annotator},
        mend="show each pair in both orders, or in a random one, and keep the order with the verdict" if level in ("note", "warn") else "",
    )


def _level(share: Estimate) -> Level:
    if math.isnan(share.low) or share.low <= 0.5 <= share.high:
        return "ok"
    return "warn" if share.low > 0.5 + STRONG or share.high < 0.5 - STRONG else "note"


def _both_orders(shown: Sequence[Judgment]) -> dict[str, OrderConsistency]:
    """Returns, for each annotator who saw pairs in both orders, how far the verdicts agree; the first time is held against the first, and so on."""
    outcomes: dict[str, dict[tuple[object, ...], dict[bool, list[float]]]] = {}
    for judgment in shown:
        presented = judgment.verdict.presented
        assert presented is not None
        pair = (id(judgment.group), judgment.first, judgment.second, judgment.criterion)
        of_pair = outcomes.setdefault(judgment.annotator, {}).setdefault(pair, {True: [], False: []})
        of_pair[presented.index(judgment.first) < presented.index(judgment.second)].append((judgment.order + 1) / 2)
    found = {}
    for name, by_pair in outcomes.items():
        twice = [both for said in by_pair.values() for both in zip(said[True], said[False], strict=False)]
        if twice:
            given, swapped = zip(*twice, strict=True)
            found[name] = order_consistency(given, swapped, num_resamples=resamples(len(twice)))
    return found


def _order(both: dict[str, OrderConsistency]) -> Finding:
    least = min(both, key=lambda name: both[name].consistent.value)
    moved = [name for name, order in both.items() if order.consistent.num >= NUM_BOTH and order.consistent.value < CONSISTENT]
    share = both[least].consistent
    return Finding(
        name="order",
        level="warn" if moved else "ok",
        headline=f"{many(len(both), 'annotator')} saw pairs in both orders; {least} kept the verdict in {percent(share)} of {many(share.num, 'pair')}"
        + (", the least" if len(both) > 1 else ""),
        numbers={"by_annotator": both},
        mend=f"use a verdict of {', '.join(sorted(moved))} only where it is the same in both orders" if moved else "",
    )
