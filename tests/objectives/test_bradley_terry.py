"""Bradley-Terry: values worked by hand, the tie models against their definitions, a fit against an oracle library."""

from __future__ import annotations

from dataclasses import replace
from math import e, exp, log
from typing import Any

import choix
import numpy as np
import pytest
import torch

from attune.core.batch import Batch
from attune.core.spec import method
from tests.contracts.build import counts, loss, total, value_and_grads
from tests.contracts.golden import Golden, by_hand

BT = method("bradley_terry")


def pair(first: float, second: float, **said: Any) -> Batch:
    return by_hand(reward=[first, second], pairs=[(0, 1)], **said)


def cost(h: float, outcome: str, **params: object) -> float:
    batch = pair(h, 0.0, tie=[True]) if outcome == "tie" else pair(h, 0.0, target=[float(outcome == "win")])
    return float(value_and_grads(replace(BT, params=params), batch)[0])


GOLDEN = (
    Golden(says="h = 1.5", batch=pair(1.0, -0.5), value=log(1 + exp(-1.5)), grad={"reward": [-1 / (1 + exp(1.5)), 1 / (1 + exp(1.5))]}),
    Golden(says="a tie is half a win for each", batch=pair(1.0, 0.0, tie=[True]), value=(log(1 + exp(-1)) + log(1 + e)) / 2),
    Golden(says="a tie stays a tie whatever its target says", batch=pair(1.0, 0.0, tie=[True], target=[1.0]), value=(log(1 + exp(-1)) + log(1 + e)) / 2),
    Golden(says="Rao-Kupper, theta 2, a win", batch=pair(1.0, 0.0), params={"ties": "rao_kupper"}, value=-log(e / (e + 2))),
    Golden(says="Rao-Kupper, theta 2, a tie", batch=pair(1.0, 0.0, tie=[True]), params={"ties": "rao_kupper"}, value=-log(3 * e / ((e + 2) * (2 * e + 1)))),
    Golden(says="Rao-Kupper, theta 5, a win", batch=pair(1.0, 0.0), params={"ties": "rao_kupper", "tie_rate": 2 / 3}, value=-log(e / (e + 5))),
    Golden(says="Davidson, nu 1, a win", batch=pair(1.0, 0.0), params={"ties": "davidson"}, value=-log(e / (e + 1 + e**0.5))),
    Golden(
        says="Davidson, nu 2, a tie",
        batch=pair(1.0, 0.0, tie=[True]),
        params={"ties": "davidson", "tie_rate": 0.5},
        value=-log(2 * e**0.5 / (e + 1 + 2 * e**0.5)),
    ),
    Golden(says="a strength of 2 asks for one more", batch=pair(1.5, 0.0, strength=[2.0]), params={"margin": 0.5}, value=log(1 + exp(-0.5))),
    Golden(
        says="the margin is asked of whichever side a vote names",
        batch=pair(1.5, 0.0, strength=[2.0], target=[0.75]),
        params={"margin": 0.5},
        value=0.75 * log(1 + exp(-0.5)) + 0.25 * log(1 + exp(2.5)),
    ),
    Golden(
        says="a tie asks for no margin", batch=pair(1.0, 0.0, tie=[True], strength=[3.0]), params={"margin": 1.0}, value=(log(1 + exp(-1)) + log(1 + e)) / 2
    ),
    Golden(says="centring", batch=pair(1.0, 0.5), params={"centring": 0.01}, value=log(1 + exp(-0.5)) + 0.01 * 1.5**2),
    Golden(says="a difference of -2e4", batch=pair(-1e4, 1e4), value=2e4),
    Golden(says="Rao-Kupper, a tie of unequals", batch=pair(-1e4, 1e4, tie=[True]), params={"ties": "rao_kupper"}, value=2e4 + log(2) - log(3)),
    Golden(says="Davidson, a tie of unequals", batch=pair(-1e4, 1e4, tie=[True]), params={"ties": "davidson"}, value=1e4),
)


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_win_loss_and_tie_share_one_and_equals_tie_at_the_given_rate(ties: str) -> None:
    for tie_rate in (0.02, 0.3, 0.9):
        for h in (-3.0, 0.0, 0.7):
            chances = [exp(-cost(h, outcome, ties=ties, tie_rate=tie_rate)) for outcome in ("win", "lose", "tie")]
            assert sum(chances) == pytest.approx(1, rel=1e-13)
        assert exp(-cost(0.0, "tie", ties=ties, tie_rate=tie_rate)) == pytest.approx(tie_rate, rel=1e-13)


def test_davidson_keeps_the_odds_of_a_win_whatever_the_ties() -> None:
    """Luce's choice axiom: win against loss is e^h under every nu; Rao and Kupper's theta does not keep it."""
    for tie_rate in (0.1, 0.6):
        assert cost(0.8, "lose", ties="davidson", tie_rate=tie_rate) - cost(0.8, "win", ties="davidson", tie_rate=tie_rate) == pytest.approx(0.8)
    assert cost(0.8, "lose", ties="rao_kupper") - cost(0.8, "win", ties="rao_kupper") > 0.9


def test_few_ties_are_bradley_terry() -> None:
    for ties in ("rao_kupper", "davidson"):
        assert cost(0.6, "win", ties=ties, tie_rate=1e-9) == pytest.approx(cost(0.6, "win"), abs=1e-8)


def test_a_tie_draws_scores_together_from_either_side() -> None:
    for ties in ("half", "rao_kupper", "davidson"):
        slopes = [float(value_and_grads(replace(BT, params={"ties": ties}), pair(h, 0.0, tie=[True]))[1]["reward"][0]) for h in (-1.0, 0.0, 1.0)]
        assert slopes[0] < slopes[1] == 0 < slopes[2]


def test_the_fit_is_that_of_choix() -> None:
    """Maximum likelihood over 60 verdicts among 5 items, by Newton steps on our loss, against choix.ilsr_pairwise."""
    chance = np.random.default_rng(0)
    drawn = [(int(winner), int(loser)) for winner, loser in (chance.choice(5, 2, replace=False) for _ in range(60))]
    wanted = choix.ilsr_pairwise(5, drawn)
    given = by_hand(reward=[0.0] * 5, pairs=drawn)
    reward = torch.zeros(5, dtype=torch.float64)
    by = counts(given)
    for _ in range(8):

        def objective(reward: torch.Tensor) -> torch.Tensor:
            return total(loss(BT, given.with_columns(reward=reward)).terms, by) + reward.sum() ** 2

        grad = torch.autograd.functional.jacobian(objective, reward)
        reward = reward - torch.linalg.solve(torch.autograd.functional.hessian(objective, reward), grad)
    assert reward.tolist() == pytest.approx((wanted - wanted.mean()).tolist(), abs=1e-7)
