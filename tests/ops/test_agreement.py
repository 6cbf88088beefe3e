"""Agreement coefficients against scikit-learn, statsmodels, evalica and a published example."""

from __future__ import annotations

import math

import evalica
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from attune.core.errors import AttuneError
from attune.ops.agreement import agreement_share, cohen_kappa, fleiss_kappa, krippendorff_alpha, order_consistency

N = None
# four observers, twelve units; Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C
EXAMPLE = [
    [1, 1, N, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [N, 5, 5, 5], [N, N, 1, 1], [N, N, 3, N],
]  # fmt: skip


def noisy(num: int, labels: int, annotators: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=num)
    return np.where(rng.random((annotators, num)) < 0.6, truth, rng.integers(labels, size=(annotators, num))).T


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohen_equals_scikit_learn(weights: str | None) -> None:
    a, b = noisy(200, 5, 2).T
    ours = cohen_kappa(a.tolist(), b.tolist(), weights=weights, num_resamples=50)
    assert ours.value == pytest.approx(cohen_kappa_score(a, b, weights=weights), abs=1e-12)


def test_cohen_interval_agrees_with_the_asymptotic_one() -> None:
    a, b = noisy(800, 3, 2, seed=2).T
    theirs = cohens_kappa(pd.crosstab(a, b).to_numpy())
    ours = cohen_kappa(a.tolist(), b.tolist())
    assert (ours.low, ours.high) == pytest.approx((theirs.kappa_low, theirs.kappa_upp), abs=0.01)


def test_missing_labels_are_left_out_not_counted_as_a_label() -> None:
    a, b = ["x", "y", None, "x", "y", None], ["x", "x", "y", "x", "y", None]
    assert cohen_kappa(a, b).value == pytest.approx(cohen_kappa_score(["x", "y", "x", "y"], ["x", "x", "x", "y"]))
    assert cohen_kappa(a, b).num == 4
    assert agreement_share(a, b).value == 3 / 4


def test_the_order_of_labels_matters_with_weights() -> None:
    a, b = ["low", "high", "mid", "low"], ["mid", "high", "low", "low"]
    codes = {"low": 0, "mid": 1, "high": 2}
    expected = cohen_kappa_score([codes[x] for x in a], [codes[x] for x in b], weights="linear")
    assert cohen_kappa(a, b, weights="linear", labels=["low", "mid", "high"]).value == pytest.approx(expected)
    with pytest.raises(AttuneError, match="labels from low to high"):
        cohen_kappa(a, b, weights="linear")
    with pytest.raises(AttuneError, match="not among"):
        cohen_kappa(a, b, labels=["low", "mid"])


def test_one_label_only_has_no_agreement_beyond_chance() -> None:
    for estimate in (cohen_kappa(["a"] * 5, ["a"] * 5), fleiss_kappa([["a", "a"]] * 5), krippendorff_alpha([[2, 2]] * 5, metric="interval")):
        assert math.isnan(estimate.value)
        assert estimate.to_dict()["value"] is None


def test_fleiss_equals_statsmodels() -> None:
    ratings = noisy(150, 4, 5)
    ours = fleiss_kappa(ratings.tolist(), num_resamples=50)
    assert ours.value == pytest.approx(statsmodels_fleiss(aggregate_raters(ratings)[0], method="fleiss"), abs=1e-12)
    with pytest.raises(AttuneError, match="krippendorff_alpha"):
        fleiss_kappa([["a", "b"], ["a", None]])


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_on_the_published_example(metric: str, published: float) -> None:
    estimate = krippendorff_alpha(EXAMPLE, metric=metric)
    assert estimate.value == pytest.approx(published, abs=5e-4)
    assert estimate.num == 11  # the last unit has one label
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_krippendorff_equals_evalica(metric: str) -> None:
    ratings = noisy(60, 5, 4, seed=3).astype(float) * 3 + 1000
    ratings[np.random.default_rng(4).random(ratings.shape) < 0.3] = np.nan
    theirs = evalica.alpha(pd.DataFrame(ratings.T), distance=metric).alpha
    ours = krippendorff_alpha([[None if np.isnan(x) else x for x in row] for row in ratings], metric=metric, num_resamples=50)
    assert ours.value == pytest.approx(theirs, abs=1e-10)


def test_krippendorff_resamples_whole_items() -> None:
    # every statistic here is a function of item counts: doubling the data leaves Cohen and the ordinal places alone and narrows the interval
    once, twice = krippendorff_alpha(EXAMPLE[:11], metric="ordinal"), krippendorff_alpha(EXAMPLE[:11] * 4, metric="ordinal")
    assert (twice.high - twice.low) == pytest.approx((once.high - once.low) / 2, rel=0.25)


def test_krippendorff_on_words_in_order_is_that_on_their_places() -> None:
    words = ["bad", "fair", "good", "great", "best"]
    named = [[None if x is None else words[x - 1] for x in item] for item in EXAMPLE]
    assert krippendorff_alpha(named, metric="ordinal", labels=words).value == pytest.approx(krippendorff_alpha(EXAMPLE, metric="ordinal").value, abs=1e-12)
    with pytest.raises(AttuneError, match="numbers"):
        krippendorff_alpha(named, metric="interval", labels=words)


def test_order_consistency_by_hand() -> None:
    # A wins both, first shown wins both, last shown wins both, tie then A, and one without a verdict
    result = order_consistency([1, 1, 0, 0.5, None], [1, 0, 1, 1, 1])
    assert result.consistent.value == 1 / 4
    assert result.first_shown.value == pytest.approx((0.5 + 1 + 0 + 0.25) / 4)
    assert result.num_missing == 1
    always_first = order_consistency([1] * 20, [0] * 20)
    assert (always_first.consistent.value, always_first.first_shown.value) == (0.0, 1.0)
    assert always_first.consistent.high > 0  # twenty items do not prove never


def test_lengths_must_match() -> None:
    for call in (
        lambda: cohen_kappa(["a"], []),
        lambda: order_consistency([1.0], []),
        lambda: krippendorff_alpha([["a"], [None, "b"]]),
        lambda: fleiss_kappa([]),
    ):
        with pytest.raises(AttuneError):
            call()
