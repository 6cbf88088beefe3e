"""Paired tests and differences of shares against scipy, statsmodels and worked steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from attune.core.errors import AttuneError
from attune.ops.intervals import mean_estimate
from attune.ops.paired import mcnemar, newcombe_difference, newcombe_paired, paired_difference, paired_shares, sign_test


@pytest.mark.parametrize(("a", "b"), [(0, 5), (3, 11), (7, 7), (120, 80), (1, 0)])
def test_the_sign_test_is_the_binomial_test(a: int, b: int) -> None:
    assert sign_test(a, b, 9).p_value == pytest.approx(binomtest(a, a + b, 0.5).pvalue, rel=1e-12)


def test_a_sign_test_without_decided_items_says_nothing() -> None:
    assert sign_test(0, 0, 4).p_value == 1.0


def test_mcnemar_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(60) < 0.7, rng.random(60) < 0.5
    table = [[int((first & second).sum()), int((first & ~second).sum())], [int((~first & second).sum()), int((~first & ~second).sum())]]
    ours = mcnemar(first.tolist(), second.tolist())
    assert ours.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-12)
    assert (ours.num_first, ours.num_second, ours.num_equal) == (table[0][1], table[1][0], table[0][0] + table[1][1])


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (9, 10, 3, 10), (5, 56, 0, 29), (10, 10, 0, 10)])
def test_newcombe_equals_statsmodels(counts: tuple[int, int, int, int]) -> None:
    estimate = newcombe_difference(*counts)
    assert (estimate.low, estimate.high) == pytest.approx(confint_proportions_2indep(*counts, compare="diff", method="newcomb"), abs=1e-9)


def test_newcombe_paired_by_its_steps() -> None:
    estimate = newcombe_paired(14, 5, 0, 22)
    l1, u1 = proportion_confint(19, 41, method="wilson")
    l2, u2 = proportion_confint(14, 41, method="wilson")
    phi = (14 * 22 - 5 * 0 - 41 / 2) / math.sqrt(19 * 22 * 14 * 27)
    a, b, c, d = 19 / 41 - l1, u2 - 14 / 41, u1 - 19 / 41, 14 / 41 - l2
    assert estimate.value == pytest.approx(5 / 41)
    assert estimate.low == pytest.approx(5 / 41 - math.sqrt(a * a - 2 * phi * a * b + b * b), abs=1e-12)
    assert estimate.high == pytest.approx(5 / 41 + math.sqrt(c * c - 2 * phi * c * d + d * d), abs=1e-12)


def test_newcombe_paired_without_correlation_is_the_independent_one() -> None:
    # both * neither - only * only = 0.5 n at most: the correction takes all of it away
    paired, apart = newcombe_paired(6, 3, 4, 2), newcombe_difference(9, 15, 10, 15)
    assert (paired.low, paired.high) == pytest.approx((apart.low, apart.high), abs=1e-12)
    assert newcombe_paired(10, 0, 0, 0).value == 0.0


def test_changing_sides_changes_the_sign() -> None:
    one, other = newcombe_paired(10, 6, 2, 9), newcombe_paired(10, 2, 6, 9)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    first, second = [True, True, False, True], [True, False, False, False]
    assert paired_shares(first, second) == newcombe_paired(1, 2, 0, 1)


def test_a_paired_difference_is_the_mean_of_differences() -> None:
    a, b = np.array([3.0, 5.0, 2.0, 8.0]), np.array([1.0, 5.0, 4.0, 2.0])
    assert paired_difference(a, b, seed=3) == mean_estimate(a - b, seed=3)


def test_lengths_and_counts_are_checked() -> None:
    for call in (lambda: mcnemar([True], []), lambda: paired_difference([1.0], [1.0, 2.0]), lambda: sign_test(-1, 2), lambda: newcombe_paired(0, 0, 0, 0)):
        with pytest.raises(AttuneError):
            call()
