"""Intervals against statsmodels, scipy and closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from attune.core.errors import AttuneError
from attune.ops.intervals import Estimate, bootstrap_interval, clopper_pearson, mean_estimate, share_estimate, show, wilson, wilson_interval

COUNTS = [(0, 7), (1, 7), (5, 12), (40, 50), (50, 50), (499, 800)]


@pytest.mark.parametrize(("k", "n"), COUNTS)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_and_clopper_pearson_equal_statsmodels(k: int, n: int, level: float) -> None:
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "beta")):
        estimate = ours(k, n, level=level)
        assert (estimate.low, estimate.high) == pytest.approx(proportion_confint(k, n, alpha=1 - level, method=method), abs=1e-12)
        assert (estimate.value, estimate.num, estimate.level) == (k / n, n, level)


def test_an_estimate_reads_well_and_turns_into_json() -> None:
    estimate = Estimate(value=0.6121, low=0.5709, high=0.653, num=800, method="by hand")
    assert str(estimate) == "0.612 [0.571, 0.653], n = 800"
    assert json.loads(json.dumps(estimate.to_dict())) == {"value": 0.6121, "low": 0.5709, "high": 0.653, "num": 800, "level": 0.95, "method": "by hand"}
    unknown = Estimate(value=math.nan, low=math.nan, high=math.nan, num=1, method="by hand")
    assert str(unknown) == "undefined [interval unknown], n = 1"
    assert json.loads(json.dumps(unknown.to_dict(), allow_nan=False))["low"] is None
    assert [show(x) for x in (0.1234, -12.34, 1844.14)] == ["0.123", "-12.3", "1844"]


def test_two_clusters_resample_as_counted_by_hand() -> None:
    # means of resamples: 0 (1/4), 1/2 (1/2), 1 (1/4)
    wide, narrow = (mean_estimate([0.0, 1.0], level=level, num_resamples=4000) for level in (0.95, 0.4))
    assert (wide.value, wide.low, wide.high) == (0.5, 0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_repeating_values_inside_a_cluster_adds_no_certainty() -> None:
    values = np.random.default_rng(1).normal(size=40)
    once = mean_estimate(values)
    again = mean_estimate(np.repeat(values, 5), clusters=[f"prompt {i}" for i in np.repeat(np.arange(40), 5)])
    naive = mean_estimate(np.repeat(values, 5))
    assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    assert again.num == 200
    assert naive.high - naive.low == pytest.approx((once.high - once.low) / math.sqrt(5), rel=0.1)


def test_cluster_bootstrap_covers_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(0)
    hits = {"clustered": 0, "naive": 0}
    clusters = np.repeat(np.arange(40), 4).tolist()
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 4) + 0.3 * rng.normal(size=160)
        for name, given in (("clustered", clusters), ("naive", None)):
            estimate = mean_estimate(values, clusters=given, num_resamples=300, seed=trial)
            hits[name] += estimate.low <= 0 <= estimate.high
    assert 178 <= hits["clustered"] <= 200  # 95 % of 200 is 190, standard deviation 3
    assert hits["naive"] < 160


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_equals_scipy_up_to_resampling_noise(method: str) -> None:
    values = np.random.default_rng(3).exponential(size=30)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method=method, rng=np.random.default_rng(0)).confidence_interval
    ours = mean_estimate(values, method=method, num_resamples=40_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02 * (theirs.high - theirs.low))


def test_bca_moves_towards_the_long_tail() -> None:
    values = np.random.default_rng(3).exponential(size=30)
    plain, corrected = (mean_estimate(values, method=method) for method in ("percentile", "bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_the_seed_decides_every_bit() -> None:
    values = np.arange(10.0)
    assert mean_estimate(values, seed=4) == mean_estimate(values, seed=4)
    assert mean_estimate(values, seed=4) != mean_estimate(values, seed=5)


def test_strata_are_redrawn_within_themselves() -> None:
    # between strata the means differ by 100; within each they hardly vary, so neither may the mean of both
    values = [0.0, 1.0, 0.0, 1.0, 100.0, 101.0, 100.0, 101.0]
    free, held = mean_estimate(values), mean_estimate(values, strata=list("aaaabbbb"))
    assert held.high - held.low <= 1.0
    assert free.high - free.low > 50
    with pytest.raises(AttuneError, match="one stratum"):
        mean_estimate([1.0, 2.0], clusters=["p", "p"], strata=["a", "b"])


def test_weights_are_those_of_a_weighted_mean() -> None:
    estimate = mean_estimate([1.0, 3.0, 8.0], weights=[2, 1, 1])
    assert estimate.value == (2 + 3 + 8) / 4
    doubled = mean_estimate([1.0, 3.0, 8.0], weights=[4, 2, 2])
    assert (doubled.low, doubled.high) == (estimate.low, estimate.high)


def test_no_spread_is_no_certainty() -> None:
    constant, single = mean_estimate([2.0, 2.0, 2.0]), mean_estimate([1.0, 2.0], clusters=["p", "p"])
    assert math.isnan(constant.low)
    assert math.isnan(single.high)
    assert not single.low > 0
    all_won = share_estimate([1.0] * 30)
    assert (all_won.low, all_won.high) == pytest.approx(wilson_interval(30, 30))
    # 30 wins on 3 prompts are worth 3, not 30; all ties are worth no more than coin flips
    assert share_estimate([1.0] * 30, clusters=[i % 3 for i in range(30)]).low == pytest.approx(wilson_interval(3, 3)[0])
    assert share_estimate([0.5] * 10).low == pytest.approx(wilson_interval(5, 10)[0])
    # effective number by Kish: (1 + 1 + 4)^2 / (1 + 1 + 16) = 2
    assert share_estimate([1.0] * 3, weights=[1, 1, 4]).low == pytest.approx(wilson_interval(2, 2)[0])


def test_a_statistic_that_is_mostly_undefined_has_no_interval() -> None:
    def first_only(weight_RC: np.ndarray) -> np.ndarray:  # the share of the first of three clusters, undefined where it was not drawn
        return np.where(weight_RC[:, 0] > 0, weight_RC[:, 0], np.nan)

    assert all(math.isnan(end) for end in bootstrap_interval(first_only, 3))  # not drawn in (2/3)^3 = 30 % of resamples


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_estimate([]),
        lambda: mean_estimate([1.0, math.nan]),
        lambda: mean_estimate([1.0], clusters=["a", "b"]),
        lambda: mean_estimate([1.0, 2.0], weights=[0.0, 0.0]),
        lambda: mean_estimate([1.0, 2.0], level=1.0),
        lambda: mean_estimate([1.0, 2.0], num_resamples=0),
        lambda: mean_estimate([1.0, 2.0], method="bca", strata=["a", "b"]),
        lambda: share_estimate([0.5, 1.5]),
        lambda: wilson(3, 2),
        lambda: clopper_pearson(0, 0),
    ],
)
def test_wrong_input_is_refused_in_one_line(call) -> None:
    with pytest.raises(AttuneError) as caught:
        call()
    assert "\n" not in str(caught.value)
