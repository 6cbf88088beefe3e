"""Two systems on the same or on different items: exact sign test, McNemar, and Newcombe's intervals of a difference of shares."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from attune.core.errors import AttuneError
from attune.ops.intervals import NUM_RESAMPLES, Estimate, Result, mean_estimate, wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTest(Result):
    """How often the first of two was better, and how likely so lopsided a count is by chance."""

    num_first: int
    num_second: int
    num_equal: int
    # left out of the test
    p_value: float
    # two-sided, exact

    def __str__(self) -> str:
        return f"first better {self.num_first}, second better {self.num_second}, equal {self.num_equal}: p = {self.p_value:.3g} (two-sided, exact)"


def sign_test(num_first: int, num_second: int, num_equal: int = 0) -> SignTest:
    """Tests whether either side is better more often than the other, ties left out.

        p = min(1, 2 P(X <= min(a, b))),   X ~ Binomial(a + b, 1/2)

    Args:
        num_first: a, items on which the first was better.
        num_second: b, items on which the second was better.
        num_equal: items on which they were equal.

    Raises:
        AttuneError: a negative count.
    """
    if min(num_first, num_second, num_equal) < 0:
        raise AttuneError("a count is not negative", field="sign_test", value=(num_first, num_second, num_equal), allowed="at least 0")
    decided = num_first + num_second
    p_value = min(1.0, 2 * float(bdtr(min(num_first, num_second), decided, 0.5))) if decided else 1.0
    return SignTest(num_first=num_first, num_second=num_second, num_equal=num_equal, p_value=p_value)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> SignTest:
    """Tests whether two systems are right equally often on the same items: the sign test of the items on which only one is right.

    Args:
        first: whether the first system is right, an item each.
        second: the same for the second system, in the same order.

    Raises:
        AttuneError: lengths that differ.

    Source: McNemar, Psychometrika 12 (1947), in its exact binomial form.
    """
    both, only_first, only_second, neither = _contingency(first, second)
    return sign_test(only_first, only_second, both + neither)


def paired_shares(first: Sequence[bool], second: Sequence[bool], *, level: float = 0.95) -> Estimate:
    """Returns the difference of two shares on the same items with Newcombe's interval (see `newcombe_paired`)."""
    return newcombe_paired(*_contingency(first, second), level=level)


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Returns the mean of first - second over the same items, with the bootstrap over clusters (see `mean_estimate`)."""
    first_N, second_N = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first_N.shape != second_N.shape:
        raise AttuneError("paired values are as many on both sides", field="second", value=second_N.shape, allowed=str(first_N.shape))
    return mean_estimate(first_N - second_N, clusters=clusters, level=level, num_resamples=num_resamples, seed=seed)


def newcombe_difference(num_first: int, total_first: int, num_second: int, total_second: int, *, level: float = 0.95) -> Estimate:
    """Returns the difference of two shares on different items.

        p1 - p2 - sqrt((p1 - l1)^2 + (u2 - p2)^2)   to   p1 - p2 + sqrt((u1 - p1)^2 + (p2 - l2)^2)

    with (l, u) the Wilson interval of each share.

    Args:
        num_first, total_first: successes and items of the first.
        num_second, total_second: the same of the second.
        level: in (0, 1).

    Raises:
        AttuneError: counts or level out of range.

    Source: Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.
    """
    (l1, u1), (l2, u2) = wilson_interval(num_first, total_first, level=level), wilson_interval(num_second, total_second, level=level)
    p1, p2 = num_first / total_first, num_second / total_second
    low, high = p1 - p2 - math.hypot(p1 - l1, u2 - p2), p1 - p2 + math.hypot(u1 - p1, p2 - l2)
    return Estimate(value=p1 - p2, low=low, high=high, num=total_first + total_second, level=level, method="Newcombe, independent")


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int, *, level: float = 0.95) -> Estimate:
    """Returns the difference of two shares on the same items.

        p1 - p2 - sqrt((p1 - l1)^2 - 2 phi (p1 - l1)(u2 - p2) + (u2 - p2)^2)   to
        p1 - p2 + sqrt((u1 - p1)^2 - 2 phi (u1 - p1)(p2 - l2) + (p2 - l2)^2)

    where phi is the correlation of the two outcomes, its numerator drawn by n/2 towards 0 where it is positive, and 0 where a
    margin is empty.

    Args:
        both, only_first, only_second, neither: how many items each of the four ways.
        level: in (0, 1).

    Raises:
        AttuneError: a negative count, no item, or level out of range.

    Source: Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10.
    """
    if min(both, only_first, only_second, neither) < 0:
        raise AttuneError("a count is not negative", field="newcombe_paired", value=(both, only_first, only_second, neither), allowed="at least 0")
    num = both + only_first + only_second + neither
    (l1, u1), (l2, u2) = (wilson_interval(both + only, num, level=level) for only in (only_first, only_second))
    p1, p2 = (both + only_first) / num, (both + only_second) / num
    covariance = float(both * neither - only_first * only_second)
    if covariance > 0:
        covariance = max(covariance - num / 2, 0.0)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    phi = covariance / math.sqrt(margins) if margins else 0.0
    down = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    up = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return Estimate(value=p1 - p2, low=p1 - p2 - down, high=p1 - p2 + up, num=num, level=level, method="Newcombe, paired")


def _contingency(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, int, int]:
    if len(first) != len(second):
        raise AttuneError("paired outcomes are as many on both sides", field="second", value=len(second), allowed=str(len(first)))
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
