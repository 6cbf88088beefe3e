"""Binary feedback: how many thumbs go up, and how many prompts have all their responses on one side."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.feedback.ratings import OVERALL
from attune.diagnostics.finding import Finding, Level, many, percent, resamples
from attune.ops.intervals import Estimate, share_estimate

LOPSIDED = 0.1
"""Share of the rarer label below which a loss over single labels is driven by the other one unless it is weighted."""

THUMBS = (0.0, 1.0)
"""The scale of binary feedback."""


def balance(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "balance": of ratings on the scale 0 to 1 that only use its ends, the share of ones by aspect, with intervals by prompt.

    Aspects that also hold values between are ratings, not labels, and are left to the probe of ratings.
    """
    labels: dict[str, list[tuple[int, float]]] = {}
    graded: set[str] = set()
    for index, group in enumerate(groups):
        for rating in group.ratings:
            if rating.value == "abstain":
                continue
            aspect, value = rating.aspect or OVERALL, float(rating.value)
            if rating.scale == THUMBS and value.is_integer():
                labels.setdefault(aspect, []).append((index, value))
            else:
                graded.add(aspect)
    binary = {aspect: said for aspect, said in sorted(labels.items()) if aspect not in graded}
    return (_finding(binary),) if binary else ()


def _finding(binary: dict[str, list[tuple[int, float]]]) -> Finding:
    shares = {aspect: _share(said) for aspect, said in binary.items()}
    counts = {aspect: _counts(said) for aspect, said in binary.items()}
    lopsided = [aspect for aspect, share in shares.items() if min(share.value, 1 - share.value) < LOPSIDED]
    level: Level = "ok" if not lopsided else "warn" if OVERALL in lopsided or len(lopsided) == len(shares) else "note"
    aspect = OVERALL if OVERALL in shares else min(shares, key=lambda name: min(shares[name].value, 1 - shares[name].value))
    said = f"{counts[aspect]['desirable']:,} desirable and {counts[aspect]['undesirable']:,} undesirable labels ({percent(shares[aspect])} desirable)"
    if len(shares) > 1:
        said += f" for {aspect}, the {'whole' if aspect == OVERALL else 'most lopsided'} of {many(len(shares), 'aspect')}"
    if counts[aspect]["several"]:
        said += f"; of {many(counts[aspect]['several'], 'prompt')} with several labels, {counts[aspect]['one_sided']:,} have them all on one side"
    return Finding(
        name="balance",
        level=level,
        headline=said,
        numbers={"counts": counts, "share": shares, "lopsided": lopsided},
        mend="weigh the two labels so that they pull equally (KTO: desirable_weight, undesirable_weight)" if level == "warn" else "",
    )


def _counts(said: Sequence[tuple[int, float]]) -> dict[str, int]:
    values: dict[int, list[float]] = {}
    for index, value in said:
        values.setdefault(index, []).append(value)
    several = [given for given in values.values() if len(given) > 1]
    ones = int(sum(value for _, value in said))
    return {"desirable": ones, "undesirable": len(said) - ones, "several": len(several), "one_sided": sum(len(set(given)) == 1 for given in several)}


def _share(said: Sequence[tuple[int, float]]) -> Estimate:
    clusters = [index for index, _ in said]
    return share_estimate([value for _, value in said], clusters=clusters, num_resamples=resamples(len(set(clusters))))
