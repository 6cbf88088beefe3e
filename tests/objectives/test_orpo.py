"""ORPO: values worked by hand and the invariants of its page."""

from __future__ import annotations

from dataclasses import replace
from math import expm1, log, log1p

import pytest
import torch

from attune.core.spec import method
from tests.contracts.build import loss, value_and_grads
from tests.contracts.golden import Golden, by_hand

ORPO = method("orpo")
PAIR = by_hand(logp=[[log(0.8), log(0.8)], [log(0.5)]], pairs=[(0, 1)])
# mean probabilities 0.8 and 0.5: odds 4 and 1, so sigma(h) = 4 / 5

GOLDEN = (
    Golden(
        says="odds 4 to 1",
        batch=PAIR,
        value=-log(0.8) + 0.1 * log(5 / 4),
        # of a mean log-probability m: -1 for the imitation, and lambda sigma(-h) / (1 - e^m) for the odds
        grad={"logp": [-1 - 0.1 * (1 / 5) / 0.2, 0.1 * (1 / 5) / 0.5]},
    ),
    Golden(says="without the odds it is imitation of the preferred", batch=PAIR, params={"lambda_or": 0.0}, value=-log(0.8), grad={"logp": [-1, 0]}),
    Golden(
        says="a soft verdict weights both parts",
        batch=by_hand(logp=[[log(0.8)], [log(0.5)]], pairs=[(0, 1)], target=[0.75]),
        params={"lambda_or": 1.0},
        value=-0.75 * log(0.8) - 0.25 * log(0.5) + 0.75 * log(5 / 4) + 0.25 * log(5),
    ),
    Golden(
        says="a rejected response that is nearly certain: its odds are 1 / (e^1e-10 - 1)",
        batch=by_hand(logp=[[log(0.5)], [-1e-10]], pairs=[(0, 1)]),
        value=-log(0.5) + 0.1 * log1p(1 / expm1(1e-10)),
    ),
    Golden(says="a preferred response of probability e^-1000", batch=by_hand(logp=[[-1000.0], [log(0.5)]], pairs=[(0, 1)]), value=1000 + 0.1 * 1000),
    Golden(
        says="imitation is a mean over each response's tokens, then over pairs, not over all tokens",
        batch=by_hand(logp=[[-1.0, -3.0, -5.0], [-1.0], [-2.0]], pairs=[(0, 1), (1, 2)]),
        params={"lambda_or": 0.0},
        value=(3 + 1) / 2,
    ),
)


def test_equal_means_cost_ln_2_of_odds() -> None:
    given = by_hand(logp=[[-1.0, -3.0], [-2.0]], pairs=[(0, 1)])
    assert float(value_and_grads(replace(ORPO, params={"lambda_or": 1.0}), given)[0]) == pytest.approx(2 + log(2), rel=1e-14)


def test_the_odds_are_those_of_high_precision() -> None:
    """Log odds in float32 stay within one rounding step of float64 from probability 1 - 1e-6 down to e^-80."""
    for mean in (-1e-6, -1e-3, -0.1, -0.7, -5.0, -80.0):
        given = by_hand(logp=[[mean], [log(0.5)]], pairs=[(0, 1)])
        exact = mean - log(-expm1(mean))
        narrow = given.map(lambda name, column: column.float() if column.dtype == torch.float64 else column)
        for batch, tolerance in ((given, 1e-13), (narrow, 3e-7)):
            assert float(loss(ORPO, batch).stats["log_odds_ratio"].value) == pytest.approx(exact, rel=tolerance, abs=tolerance)
