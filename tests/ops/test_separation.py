"""The area under the ROC curve: by hand, against scikit-learn, and its interval by cluster."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from attune.core.errors import AttuneError
from attune.ops.separation import auc_estimate


def test_by_hand() -> None:
    """Upper 3, 1; lower 2, 1: right are 3>2, 3>1, half of 1=1, and 1<2 is wrong."""
    assert auc_estimate([3.0, 1.0, 2.0, 1.0], [True, True, False, False]).value == (1 + 1 + 0 + 0.5) / 4


def test_against_an_oracle() -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=200).round(1), draw.random(200) < 0.3
    assert auc_estimate(scores, labels).value == pytest.approx(roc_auc_score(labels, scores))


def test_the_interval_is_that_of_resampled_clusters() -> None:
    """Ten copies of each value in its own cluster say no more than one: the interval is that of the clusters, not of the copies."""
    draw = np.random.default_rng(1)
    scores, labels = draw.normal(size=60) + 0.5 * np.arange(60) % 2, np.arange(60) % 2 == 1
    alone = auc_estimate(scores, labels)
    copied = auc_estimate(np.tile(scores, 10), np.tile(labels, 10), clusters=list(range(60)) * 10)
    assert (copied.value, copied.low, copied.high) == pytest.approx((alone.value, alone.low, alone.high))
    boot = []
    for _ in range(2000):
        picked = draw.integers(0, 60, 60)
        boot.append(roc_auc_score(labels[picked], scores[picked]))
    assert (alone.low, alone.high) == pytest.approx(np.quantile(boot, [0.025, 0.975]), abs=0.02)


def test_one_class_cannot_be_separated() -> None:
    with pytest.raises(AttuneError, match="values of both"):
        auc_estimate([1.0, 2.0], [True, True])
