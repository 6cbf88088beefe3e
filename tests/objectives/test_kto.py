"""KTO: values worked by hand and the invariants of its page."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest

from attune.core.batch import reduced
from attune.core.spec import method
from tests.contracts.build import counts, loss, value_and_grads
from tests.contracts.golden import Golden, by_hand

KTO = method("kto")


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


RATED = by_hand(
    logp=[[-1.0, -1.0], [-2.0], [-1.0], [-2.5], [-2.5]],
    ref=[[-2.0, -2.0], [-3.0], [-6.0], [-3.0], [-4.0]],
    labels=[True, False, None, None, None],
    mismatched=2,
)
# log-ratios 2 (desirable), 1 (undesirable), 5 (nobody said); 1/2 and 3/2 mismatched, so z0 = 1
FALLEN = by_hand(logp=[[-1.0], [-6.0], [-4.0]], ref=[[-2.0], [-3.0], [-3.0]], labels=[True, None, None], mismatched=2)
# mismatched log-ratios -3 and -1: the mean is -2 and z0 = 0

GOLDEN = (
    Golden(
        says="z0 = 1: a gain of one nat, and an undesirable response at the reference point",
        batch=RATED,
        params={"beta": 0.5, "lambda_d": 1.0, "lambda_u": 2.0},
        value=(sigmoid(-0.5) + 2 * 0.5) / 2,
        # two tokens in the first row; z0 carries no gradient to the mismatched rows
        grad={"logp": [-2 * 0.5 * sigmoid(0.5) * sigmoid(-0.5) / 2, 2 * 0.5 * 0.25 / 2, 0, 0, 0]},
    ),
    Golden(says="lambda_d weights the desirable", batch=RATED, params={"beta": 0.5, "lambda_d": 3.0}, value=(3 * sigmoid(-0.5) + 0.5) / 2),
    Golden(says="a negative mean is clamped to z0 = 0", batch=FALLEN, params={"beta": 1.0}, value=sigmoid(-1)),
    Golden(
        says="far below the reference point a desirable response costs all of lambda_d",
        batch=by_hand(logp=[[-1e4]], ref=[[0.0]], labels=[True]),
        params={"lambda_d": 1.5},
        value=1.5,
    ),
)


def test_at_the_reference_every_response_costs_half_its_weight() -> None:
    given = by_hand(logp=[[-1.0], [-2.0], [-3.0]], ref=[[-1.0], [-2.0], [-3.0]], labels=[True, False, None], mismatched=1)
    value, grads = value_and_grads(replace(KTO, params={"lambda_d": 1.0, "lambda_u": 1.4}), given)
    assert float(value) == pytest.approx((0.5 + 0.7) / 2, rel=1e-15)
    assert grads["logp"][:, 0].tolist() == pytest.approx([-0.1 / 4 / 2, 1.4 * 0.1 / 4 / 2, 0.0])


def test_the_paper_loss_is_lambda_less_value() -> None:
    """L = lambda_y - v with the paper's value function, which the code writes without the subtraction."""
    for ratio in (-3.0, 0.0, 2.0):
        for desirable, sign in ((True, 1), (False, -1)):
            given = by_hand(logp=[[ratio - 9], [-8.3]], ref=[[-9.0], [-9.0]], labels=[desirable, None], mismatched=1)
            value = 1.2 * sigmoid(0.3 * sign * (ratio - 0.7))
            found = value_and_grads(replace(KTO, params={"beta": 0.3, "lambda_d": 1.2, "lambda_u": 1.2}), given)[0]
            assert float(found) == pytest.approx(1.2 - value, rel=1e-13)


def test_the_pull_is_strongest_at_the_reference_point_and_fades_on_both_sides() -> None:
    def pull(ratio: float) -> float:
        given = by_hand(logp=[[ratio - 50]], ref=[[-50.0]], labels=[True])
        return float(value_and_grads(replace(KTO, params={"beta": 1.0}), given)[1]["logp"][0, 0].abs())

    assert [pull(0), pull(-4)] == pytest.approx([0.25, pull(4)])
    assert pull(8) < pull(4) < pull(2) < pull(0)


def test_the_reference_point_is_logged_before_its_clamp() -> None:
    stat = loss(KTO, FALLEN).stats["kl_mismatched"]
    assert float(reduced(stat, counts(FALLEN))) == pytest.approx(-2.0)
