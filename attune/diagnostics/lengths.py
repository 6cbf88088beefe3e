"""Whether the longer response wins: shared by the probes that count characters and those that count tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from attune.diagnostics.finding import Finding, Level, many, percent, resamples
from attune.diagnostics.judgments import Judgment
from attune.ops.intervals import Estimate, mean_estimate, share_estimate, show

STRONG = 0.1
"""How far from one half the share of longer winners must surely be to call length a driver of preference."""


def length_difference(clear: Sequence[Judgment], measure: Callable[[Judgment, int], int], *, name: str, unit: str) -> Finding:
    """Returns how much longer preferred responses are, and how well "the longer one wins" predicts the verdict, with intervals by prompt.

    Args:
        clear: decided judgments, at least one.
        measure: (judgment, response index) -> length in `unit`.
        name: of the finding.
        unit: plural noun.
    """
    length_J2 = np.array([(measure(judgment, judgment.preferred), measure(judgment, judgment.dispreferred)) for judgment in clear], dtype=np.float64)
    difference_J = length_J2[:, 0] - length_J2[:, 1]
    clusters = [id(judgment.group) for judgment in clear]
    num = resamples(len(set(clusters)))
    difference = mean_estimate(difference_J, clusters=clusters, num_resamples=num)
    unequal = np.flatnonzero(difference_J)
    wins = share_estimate(difference_J[unequal] > 0, clusters=[clusters[index] for index in unequal], num_resamples=num) if unequal.size else None
    preferred, dispreferred = length_J2.mean(axis=0)
    said = f"preferred responses are {abs(difference.value):.1f} {unit} {'longer' if difference.value >= 0 else 'shorter'}{_ends(difference)} on average "
    said += f"({show(preferred)} against {show(dispreferred)})"
    if wins is not None:
        said += f'; "the longer one wins" is right in {percent(wins)} of {many(wins.num, "comparison")}'
    level = _level(wins)
    return Finding(
        name=name,
        level=level,
        headline=said,
        numbers={
            "comparisons": len(clear),
            "difference": difference,
            "median_difference": float(np.median(difference_J)),
            "longer_wins": wins,
            "equal": int(len(clear) - unequal.size),
            "mean_preferred": float(preferred),
            "mean_dispreferred": float(dispreferred),
        },
        mend="a model can win by length alone: balance the pairs by length, or use an objective that controls for it" if level == "warn" else "",
    )


def _ends(difference: Estimate) -> str:
    return "" if math.isnan(difference.low) else f" [{difference.low:+.1f}, {difference.high:+.1f}]"


def _level(wins: Estimate | None) -> Level:
    if wins is None or wins.low <= 0.5 <= wins.high:
        return "ok"
    return "warn" if wins.low > 0.5 + STRONG or wins.high < 0.5 - STRONG else "note"
