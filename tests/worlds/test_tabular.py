import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from attune.worlds.annotators import Annotator
from attune.worlds.tabular import TabularWorld, random_world


def two():
    """pi_ref = 1/4, 3/4; r = log 2, 0."""
    return TabularWorld(torch.tensor([[0.25, 0.75]], dtype=torch.float64).log(), torch.tensor([[math.log(2.0), 0.0]], dtype=torch.float64))


def test_optimum_reward_and_divergence_by_hand():
    world = two()
    # beta = 1/2: 1/4 * 4 : 3/4 = 4 : 3
    best = world.optimum(0.5)
    assert best.exp().tolist()[0] == pytest.approx([4 / 7, 3 / 7])
    assert world.expected_reward(best).item() == pytest.approx(4 / 7 * math.log(2))
    assert world.kl(best).item() == pytest.approx(4 / 7 * math.log(16 / 7) + 3 / 7 * math.log(4 / 7))
    # P(0 beats 1) = 2/3, so b = (1/2 + 2/3) / 2, (1/2 + 1/3) / 2; the margin over the reference is (2/3 - 1/2) / tau
    assert torch.diff(world.ipo_optimum(0.1) - world.reference).item() == pytest.approx(-(2 / 3 - 1 / 2) / 0.1)


def test_no_policy_has_a_higher_regularised_reward():
    world, beta = random_world(1, 4, seed=3), 0.7

    def loss(logit):
        logp_XY = torch.log_softmax(torch.from_numpy(logit)[None], -1)
        return -(world.expected_reward(logp_XY) - beta * world.kl(logp_XY)).item()

    found = minimize(loss, np.zeros(4), tol=1e-12)
    assert torch.log_softmax(torch.from_numpy(found.x), -1).tolist() == pytest.approx(world.optimum(beta)[0].tolist(), abs=1e-4)
    # its value is beta log Z
    assert -found.fun == pytest.approx((beta * torch.logsumexp(world.reference + world.reward / beta, -1)).item(), abs=1e-8)


def test_the_ipo_optimum_minimises_the_sum_of_squares():
    world, tau = random_world(1, 5, seed=4), 0.3
    p_YY = world.preference()[0].numpy()

    def loss(u):
        return sum((u[i] - u[j] - (p_YY[i, j] - 0.5) / tau) ** 2 for i in range(5) for j in range(i))

    u = minimize(loss, np.zeros(5), tol=1e-12).x
    expected = (world.ipo_optimum(tau) - world.reference)[0].numpy()
    assert u - u.mean() == pytest.approx(expected - expected.mean(), abs=1e-5)
    assert minimize(loss, np.zeros(5)).fun > 1e-3  # no policy gives every pair its own margin


def test_population_pairs_carry_true_preferences():
    world = random_world(2, 3, seed=0)
    pairs = world.population(world.groups()[1]).pairs
    reward = world.reward[1].tolist()
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in pairs:
        assert pair.target == pytest.approx(1 / (1 + math.exp(reward[pair.second] - reward[pair.first])))


def test_sampled_verdicts_agree_with_the_preferences():
    world = two()
    (group,) = world.judged([Annotator(id=str(i)) for i in range(3000)], seed=0)
    wins = sum(verdict.tiers[0] == (0,) for verdict in group.verdicts)
    assert abs(wins - 2000) < 4 * math.sqrt(3000 * 2 / 9)
