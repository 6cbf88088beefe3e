"""Whether ratings and verdicts on the same responses say the same: the order that the ratings imply against the order that was stated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attune.core.record import Group
from attune.diagnostics.feedback.ratings import OVERALL
from attune.diagnostics.finding import Finding, Level, Ref, many, percent, ref, resamples
from attune.diagnostics.judgments import Judgment, identities, judgments
from attune.ops.agreement import cohen_kappa
from attune.ops.intervals import Estimate, share_estimate
from attune.signals._numbers import numbers

POOR = 0.4
"""Kappa below which ratings and verdicts hardly measure the same; where it may as well be 0, that is a warning."""

Value = tuple[Judgment, int]
"""A judgment and the order that the ratings of its two responses imply: 1, -1, or 0 where they are equal."""


def consistency(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "consistency": the share of comparisons whose order (ties included) is the one implied by ratings of the two responses, by aspect.

    A response's rating is the mean over its raters, as the signals take it. Scores that models gave are held against the verdicts in the
    same way. Cohen's kappa says how much of the agreement chance would give.
    """
    both = [group for group in groups if group.verdicts and (group.ratings or any(response.scores for response in group.responses))]
    tables = {id(group): _table(group) for group in both}
    by_aspect: dict[str, list[Value]] = {}
    for judgment in judgments(both):
        for aspect, value_of in tables[id(judgment.group)].items():
            if judgment.first in value_of and judgment.second in value_of:
                first, second = value_of[judgment.first], value_of[judgment.second]
                by_aspect.setdefault(aspect, []).append((judgment, 0 if math.isclose(first, second, rel_tol=1e-9) else 1 if first > second else -1))
    return (_finding(by_aspect),) if by_aspect else ()


def _table(group: Group) -> dict[str, dict[int, float]]:
    """Returns aspect -> response index -> mean rating, as a signal would have it; scores of models under "score: aspect".

    Equal texts that were rated apart share the mean of their ratings: whoever rated one rated the other.
    """
    rated = {rating.aspect for rating in group.ratings if rating.value != "abstain"}
    scored = {aspect for response in group.responses for aspect in response.scores}
    table = {aspect or OVERALL: numbers(group, by="ratings", aspect=aspect)[0] for aspect in rated}
    table |= {f"score: {aspect}": numbers(group, by="scores", aspect=aspect)[0] for aspect in scored}
    names = identities(group)
    return {aspect: _by_text(value_of, names) for aspect, value_of in table.items()}


def _by_text(value_of: Mapping[int, float], names: Sequence[str]) -> dict[int, float]:
    given: dict[str, list[float]] = {}
    for index, value in value_of.items():
        given.setdefault(names[index], []).append(value)
    return {index: sum(given[name]) / len(given[name]) for index, name in enumerate(names) if name in given}


def _finding(by_aspect: dict[str, list[Value]]) -> Finding:
    shares = {aspect: _share(values) for aspect, values in by_aspect.items()}
    kappas = {
        aspect: cohen_kappa([judgment.order for judgment, _ in values], [implied for _, implied in values], num_resamples=resamples(len(values)))
        for aspect, values in by_aspect.items()
    }
    counts = {
        aspect: {"agree": sum(judgment.order == implied for judgment, implied in values), "comparisons": len(values)} for aspect, values in by_aspect.items()
    }
    aspect = OVERALL if OVERALL in shares else max(shares, key=lambda name: (shares[name].num, shares[name].value))
    agree, num = counts[aspect]["agree"], counts[aspect]["comparisons"]
    level = _level(kappas[aspect])
    return Finding(
        name="consistency",
        level=level,
        headline=f"ratings {aspect} imply the stated verdict on {agree:,} of {many(num, 'comparison')}: {percent(shares[aspect])}; kappa {kappas[aspect]}",
        numbers={"aspect": aspect, "counts": counts, "share": shares, "kappa": kappas},
        records=tuple(_refs(by_aspect[aspect])),
        mend="ratings and verdicts do not measure the same: decide which to train on, and look at the records where they part" if level == "warn" else "",
    )


def _share(values: Sequence[Value]) -> Estimate:
    clusters = [id(judgment.group) for judgment, _ in values]
    return share_estimate([judgment.order == implied for judgment, implied in values], clusters=clusters, num_resamples=resamples(len(set(clusters))))


def _level(kappa: Estimate) -> Level:
    if math.isnan(kappa.value):
        return "note"
    if kappa.value >= POOR:
        return "ok"
    return "note" if kappa.low > 0 else "warn"


def _refs(values: Sequence[Value]) -> list[Ref]:
    said = {1: "the first better", -1: "the second better", 0: "a tie"}
    parted = [(judgment, implied) for judgment, implied in values if judgment.order != implied]
    return [
        ref(judgment.group, f"responses {judgment.first}, {judgment.second}: verdict {said[judgment.order]}, ratings {said[implied]}")
        for judgment, implied in parted
    ]
