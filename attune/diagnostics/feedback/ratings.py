"""How the scale is used: abstentions, raters who always say the same, and ratings that hardly vary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from attune.core.record import Group, Rating
from attune.diagnostics.finding import Finding, Level, many, ref
from attune.diagnostics.judgments import NOBODY

NUM_ENOUGH = 5
"""Ratings that an annotator or an aspect must have before "always the same" means something."""

SURPRISING = 0.01
"""Chance, if a rater drew from what everybody said, of saying the same every time; below it the rater is suspected."""

NEAR = 0.95
"""Share of one value at which ratings hardly tell responses apart."""

OVERALL = "(overall)"
"""Stands for the aspect of ratings of the response as a whole."""


def ratings(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "ratings" (which values were given, by aspect), "raters" (who always says the same) and "scores" (as "ratings", of what models scored)."""
    said = [(group, rating) for group in groups for rating in group.ratings]
    found = []
    if said:
        found += [_ratings(said), _raters(said)]
    scored: dict[str, list[float]] = {}
    for group in groups:
        for response in group.responses:
            for aspect, value in response.scores.items():
                scored.setdefault(aspect, []).append(value)
    if scored:
        uses = {aspect: _use(values) for aspect, values in sorted(scored.items())}
        found.append(_usage("scores", "score", uses))
    return tuple(found)


def _ratings(said: Sequence[tuple[Group, Rating]]) -> Finding:
    by_aspect: dict[str, list[float | str]] = {}
    scales: dict[str, set[tuple[float, float]]] = {}
    for _, rating in said:
        by_aspect.setdefault(rating.aspect or OVERALL, []).append(rating.value)
        if rating.scale:
            scales.setdefault(rating.aspect or OVERALL, set()).add(rating.scale)
    uses = {aspect: {**_use(values), "scales": sorted(scales.get(aspect, ()))} for aspect, values in sorted(by_aspect.items())}
    return _usage("ratings", "rating", uses)


def _use(values: Iterable[float | str]) -> dict[str, object]:
    """Returns how often each value was given; abstentions are counted apart."""
    given = [value for value in values if value != "abstain"]
    counts = Counter(given)
    top = counts.most_common(1)[0][1] if counts else 0
    shown = {f"{value:g}": num for value, num in sorted(counts.items(), key=lambda item: float(item[0]))} if len(counts) <= 20 else {}
    return {
        "num": len(given),
        "abstained": len(list(values)) - len(given),
        "distinct": len(counts),
        "largest_share": top / len(given) if given else None,
        "values": shown,
    }


def _usage(name: str, noun: str, uses: dict[str, dict[str, object]]) -> Finding:
    num, abstained = (sum(int(str(use[key])) for use in uses.values()) for key in ("num", "abstained"))
    flat = [aspect for aspect, use in uses.items() if int(str(use["num"])) >= NUM_ENOUGH and float(str(use["largest_share"])) >= NEAR]
    level: Level = "warn" if len(flat) == len(uses) else "note" if flat or abstained else "ok"
    said = f"{many(num, noun)} on {many(len(uses), 'aspect')}"
    said += f", {abstained:,} abstained" if name == "ratings" else ""
    if flat:
        said += f"; hardly vary (one value in {100 * NEAR:.0f} % or more): {', '.join(flat)}"
    return Finding(
        name=name,
        level=level,
        headline=said,
        numbers={"num": num, "abstained": abstained, "near_constant": flat, "aspects": uses},
        mend="nothing can be learnt from a value that never changes: leave those aspects out or use a finer scale" if flat else "",
    )


def _raters(said: Sequence[tuple[Group, Rating]]) -> Finding:
    values: dict[tuple[str, str], list[float]] = {}
    first: dict[tuple[str, str], Group] = {}
    for group, rating in said:
        if rating.value != "abstain":
            rater = (rating.aspect or OVERALL, rating.annotator or NOBODY)
            values.setdefault(rater, []).append(float(rating.value))
            first.setdefault(rater, group)
    everybody = {aspect: Counter(value for (other, _), given in values.items() if other == aspect for value in given) for aspect, _ in values}
    able = {rater: given for rater, given in values.items() if len(given) >= NUM_ENOUGH}
    # where nearly everybody says 0, five zeros say nothing about a rater
    single = {
        rater: given[0]
        for rater, given in able.items()
        if len(set(given)) == 1 and (everybody[rater[0]][given[0]] / everybody[rater[0]].total()) ** len(given) < SURPRISING
    }
    return Finding(
        name="raters",
        level="warn" if single else "ok",
        headline=f"of {many(len(able), 'rater')} with {NUM_ENOUGH} ratings or more of an aspect, {len(single):,} suspiciously gave one value only",
        numbers={"raters": len(able), "single_valued": len(single), "least_ratings": NUM_ENOUGH, "chance_below": SURPRISING},
        records=tuple(
            ref(first[rater], f"{rater[1]} gave {value:g} for {rater[0]} every time ({len(able[rater])} ratings)") for rater, value in single.items()
        ),
        mend="ask these raters again, or leave them out: what they say does not depend on the response" if single else "",
    )
