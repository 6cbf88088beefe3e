"""Statistics of an update as sums and counts, which add up exactly over passes and ranks; what is logged is their quotient."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from attune.core.batch import Batch, Term

Sums = dict[str, tuple[float, float]]
"""Statistic -> (sum, count)."""

SHARE = math.inf
"""The count of a statistic whose parts are shares of the whole: they are added, not averaged."""


def means(sums: Sums) -> dict[str, float]:
    """Returns each statistic as a number: its sum over its count, or the sum alone where the parts are shares of the whole already.

    What was counted 0 times (the accuracy of a batch without pairs) is absent, not 0.
    """
    return {name: total if count == SHARE else total / count for name, (total, count) in sums.items() if count}


def add(sums: Sums, more: Sums) -> None:
    """Adds the statistics of a further pass."""
    for name, (total, count) in more.items():
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + count)


def note(sums: Sums, stats: Mapping[str, Term], batch: Batch, prefix: str = "") -> None:
    """Adds the part of each statistic that this batch holds; what is counted by a constant is a share of the whole."""
    for name, term in stats.items():
        total = float(term.value.detach().double().sum())
        if isinstance(term.count, str):
            part = (total, float(batch.count(term.count)))
        elif isinstance(term.count, Tensor):
            part = (total, float(term.count))
        else:
            part = (total / term.count, SHARE)
        add(sums, {prefix + name: part})
