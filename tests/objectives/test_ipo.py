"""IPO: values worked by hand and the invariants of its page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attune.core.spec import method
from tests.contracts.build import value_and_grads
from tests.contracts.golden import Golden, by_hand

IPO = method("ipo")
PAIR = by_hand(logp=[[-1.0, -2.0], [-3.0]], ref=[[-2.0, -3.0], [-2.0]], pairs=[(0, 1)])
# log-ratios 2 over two tokens and -1 over one: a margin of 3 nats by sums, of 1 - (-1) = 2 by means

GOLDEN = (
    Golden(says="sum: (3 - 1/(2 * 0.1))^2", batch=PAIR, value=(3 - 5) ** 2, grad={"logp": [2 * 2 * (3 - 5), -2 * (3 - 5)]}),
    Golden(says="mean, as TRL: (2 - 5)^2", batch=PAIR, params={"logp": "mean"}, value=(2 - 5) ** 2, grad={"logp": [2 * (2 - 5), -2 * (2 - 5)]}),
    Golden(says="tau 1/2 asks for one nat", batch=PAIR, params={"tau": 0.5}, value=(3 - 1) ** 2),
    Golden(
        says="a soft verdict is the expectation over the two hard ones; mean over pairs",
        batch=by_hand(logp=[[-1.0], [-2.0]], ref=[[-2.0], [-2.0]], pairs=[(0, 1), (0, 1)], target=[0.75, 0.5]),
        params={"tau": 0.5},
        value=((0.75 * 0 + 0.25 * 4) + (0.5 * 0 + 0.5 * 4)) / 2,
    ),
)


def test_at_the_reference_the_loss_is_the_square_of_the_margin_asked_for() -> None:
    given = by_hand(logp=[[-1.0], [-3.0]], ref=[[-1.0], [-3.0]], pairs=[(0, 1)])
    for tau in (0.1, 1.0, 4.0):
        assert float(value_and_grads(replace(IPO, params={"tau": tau}), given)[0]) == pytest.approx(1 / (4 * tau**2), rel=1e-14)


@pytest.mark.parametrize(("tau", "share"), [(0.1, 1.0), (0.5, 0.8), (0.25, 0.5), (1.0, 0.1)])
def test_the_optimum_is_a_finite_margin(tau: float, share: float) -> None:
    """h = (2p - 1) / (2 tau): 5 nats for a certain verdict at tau 0.1, none for a tie; beyond it the gradient points back."""
    optimum = (2 * share - 1) / (2 * tau)
    for beyond in (0.0, 1.0, -1.0):
        given = by_hand(logp=[[optimum + beyond - 20], [-20.0]], ref=[[-20.0], [-20.0]], pairs=[(0, 1)], target=[share])
        slope = float(value_and_grads(replace(IPO, params={"tau": tau}), given)[1]["logp"][0, 0])
        assert slope == pytest.approx(2 * beyond, abs=1e-12)
