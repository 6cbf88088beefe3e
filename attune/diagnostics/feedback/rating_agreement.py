"""How far raters agree on the same response, beyond chance: people apart from judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attune.core.record import Group
from attune.diagnostics.feedback.agreement import FAIR, POOR
from attune.diagnostics.feedback.ratings import OVERALL
from attune.diagnostics.finding import Finding, Level, many, resamples
from attune.diagnostics.judgments import NOBODY, Kind, kind
from attune.ops.agreement import krippendorff_alpha
from attune.ops.intervals import Estimate, show

_VOICES: tuple[Kind, ...] = ("people", "judges")


def rating_agreement(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "rating_agreement_people" and "rating_agreement_judges": Krippendorff's alpha (ordinal) of the ratings of one response, by aspect.

    A rater's last rating of a response counts. Gold labels and ratings of nobody named do not.
    """
    found = [_finding(f"rating_agreement_{which}", _values(groups, which)) for which in _VOICES]
    return tuple(finding for finding in found if finding is not None)


def _values(groups: Sequence[Group], which: Kind) -> dict[str, list[list[float]]]:
    """Returns aspect -> the responses that several raters rated -> their ratings."""
    values: dict[str, list[list[float]]] = {}
    for group in groups:
        given: dict[tuple[str, int], dict[str, float]] = {}
        for rating in group.ratings:
            rater = rating.annotator or NOBODY
            if rating.value != "abstain" and rater != NOBODY and kind(rater) == which:
                given.setdefault((rating.aspect or OVERALL, rating.response), {})[rater] = float(rating.value)
        for (aspect, _), by_rater in given.items():
            if len(by_rater) > 1:
                values.setdefault(aspect, []).append(list(by_rater.values()))
    return values


def _finding(name: str, values: Mapping[str, Sequence[Sequence[float]]]) -> Finding | None:
    if not values:
        return None
    alphas = {aspect: krippendorff_alpha(items, metric="ordinal", num_resamples=resamples(len(items))) for aspect, items in sorted(values.items())}
    defined = sorted((alpha.value, aspect) for aspect, alpha in alphas.items() if not math.isnan(alpha.value))
    num = sum(map(len, values.values()))
    said = f"several raters rated the same response {many(num, 'time')}"
    if len(defined) == 1:
        said += f": Krippendorff's alpha {alphas[defined[0][1]]} ({defined[0][1]})"
    elif defined:
        said += f": Krippendorff's alpha from {show(defined[0][0])} ({defined[0][1]}) to {show(defined[-1][0])} ({defined[-1][1]})"
    level = _level(alphas)
    return Finding(
        name=name,
        level=level,
        headline=said,
        numbers={"items": num, "alpha": alphas},
        mend="sharpen the rubric, or average over more raters before training on these numbers" if level in ("note", "warn") else "",
    )


def _level(alphas: Mapping[str, Estimate]) -> Level:
    """Judges by the overall rating where there is one, else by the median aspect."""
    defined = sorted(alpha.value for alpha in alphas.values() if not math.isnan(alpha.value))
    if not defined:
        return "note"
    value = alphas[OVERALL].value if OVERALL in alphas and not math.isnan(alphas[OVERALL].value) else defined[len(defined) // 2]
    return "warn" if value < POOR else "note" if value < FAIR else "ok"
