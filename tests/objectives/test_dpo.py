"""DPO: values worked by hand and the invariants of its page."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch

from attune.core.spec import method
from tests.contracts.build import value_and_grads
from tests.contracts.golden import Golden, by_hand

DPO = method("dpo")
PAIR = by_hand(logp=[[-1.0, -2.0], [-3.0]], ref=[[-1.5, -2.5], [-1.0]], pairs=[(0, 1)])
# log-ratios (-3) - (-4) = 1 and (-3) - (-1) = -2: a margin of 3 nats


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


GOLDEN = (
    Golden(
        says="margin 3, beta 0.1: h = 0.3",
        batch=PAIR,
        value=log(1 + exp(-0.3)),
        # both tokens of the first row get -beta sigma(-h), the one token of the second gets + beta sigma(-h)
        grad={"logp": [-2 * 0.1 * sigmoid(-0.3), 0.1 * sigmoid(-0.3)]},
    ),
    Golden(
        says="label smoothing 0.2",
        batch=PAIR,
        params={"beta": 0.5, "label_smoothing": 0.2},
        value=0.8 * log(1 + exp(-1.5)) + 0.2 * log(1 + exp(1.5)),
    ),
    Golden(
        says="two pairs, one soft: the mean over pairs, not over rows",
        batch=by_hand(logp=[[-1.0], [-2.0], [-5.0]], ref=[[-2.0], [-2.0], [-2.0]], pairs=[(0, 1), (2, 1)], target=[1.0, 0.3]),
        params={"beta": 1.0},
        value=(log(1 + exp(-1)) + 0.3 * log(1 + exp(3)) + 0.7 * log(1 + exp(-3))) / 2,
    ),
    Golden(says="a margin of -2000: the loss is the distance", batch=by_hand(logp=[[-1e4], [0.0]], ref=[[0.0], [-1e4]], pairs=[(0, 1)]), value=2000.0),
)


def test_at_the_reference_the_loss_is_ln_2_and_each_token_moves_by_half_beta() -> None:
    given = by_hand(logp=[[-1.0, -2.0], [-3.0]], ref=[[-1.0, -2.0], [-3.0]], pairs=[(0, 1)])
    value, grads = value_and_grads(DPO, given)
    assert float(value) == pytest.approx(log(2), abs=1e-15)
    assert grads["logp"].tolist() == [[-0.05, -0.05], [0.05, 0.0]]


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.4])
def test_smoothing_has_its_minimum_where_sigma_of_the_margin_is_the_share_of_right_verdicts(epsilon: float) -> None:
    h = log((1 - epsilon) / epsilon)
    given = by_hand(logp=[[h / 0.1], [0.0]], ref=[[0.0], [0.0]], pairs=[(0, 1)])
    _, grads = value_and_grads(replace(DPO, params={"label_smoothing": epsilon}), given)
    assert grads["logp"].abs().max() < 1e-16


def test_a_tie_pulls_back_to_the_reference() -> None:
    """With target 1/2 the gradient vanishes at equal log-ratios and points back to them elsewhere."""
    level, ahead = (by_hand(logp=[[first], [-2.0]], ref=[[-1.0], [-2.0]], pairs=[(0, 1)], tie=[True]) for first in (-1.0, -0.5))
    assert not value_and_grads(DPO, level)[1]["logp"].any()
    assert value_and_grads(DPO, ahead)[1]["logp"][0, 0] > 0


def test_only_log_ratios_matter() -> None:
    """Adding the same number to policy and reference at a token changes nothing."""
    shift = torch.tensor([[-0.5, 0.25], [-4.0, 0.0]], dtype=torch.float64)
    moved = PAIR.with_columns(logp=PAIR.get("logp") + shift, ref_logp=PAIR.get("ref_logp") + shift)
    assert float(value_and_grads(DPO, moved)[0]) == pytest.approx(log(1 + exp(-0.3)), rel=1e-15)
