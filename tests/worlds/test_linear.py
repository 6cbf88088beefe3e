import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from attune.core.errors import ConfigError
from attune.worlds.linear import one_hot, random_linear_world
from attune.worlds.tabular import random_world


def test_one_hot_features_make_the_tabular_world():
    table = random_world(3, 4, seed=0)
    world = one_hot(table)
    assert torch.allclose(world.optimum(0.5), table.optimum(0.5), atol=1e-9)
    assert torch.allclose(world.dpo_optimum(0.5), table.optimum(0.5), atol=1e-9)
    assert torch.allclose(world.ipo_optimum(0.5), table.ipo_optimum(0.5), atol=1e-9)
    assert torch.allclose(world.reward_optimum(), table.reward - table.reward.mean(-1, keepdim=True), atol=1e-9)


def test_a_linear_reward_is_found_exactly():
    world = random_linear_world(4, 5, 3, seed=1)
    assert torch.allclose(world.dpo_optimum(0.3), world.optimum(0.3), atol=1e-7)
    assert torch.allclose(world.reward_optimum(), world.reward - world.reward.mean(-1, keepdim=True), atol=1e-7)


def test_a_reward_out_of_reach_is_fitted_as_regressions_do():
    world = random_linear_world(4, 5, 3, seed=1, misfit=0.7)
    pairs = [(x, i, j) for x in range(4) for i in range(5) for j in range(i + 1, 5)]
    feature, p = world.features.numpy(), world.preference().numpy()
    d_PD = np.stack([feature[x, i] - feature[x, j] for x, i, j in pairs])
    p_P = np.array([p[x, i, j] for x, i, j in pairs])
    logistic = LogisticRegression(C=1e12, fit_intercept=False, tol=1e-10, max_iter=1000)
    logistic.fit(np.concatenate((d_PD, d_PD)), [1] * len(pairs) + [0] * len(pairs), np.concatenate((p_P, 1 - p_P)))
    expected = feature @ logistic.coef_[0]
    assert world.reward_optimum().numpy() == pytest.approx(expected - expected.mean(-1, keepdims=True), abs=1e-5)
    assert torch.allclose(world.dpo_optimum(0.5), torch.log_softmax(world.reference + torch.from_numpy(expected) / 0.5, -1), atol=1e-4)
    squares = LinearRegression(fit_intercept=False).fit(d_PD, (p_P - 0.5) / 0.2)
    assert torch.allclose(world.ipo_optimum(0.2), torch.log_softmax(world.reference + torch.from_numpy(feature @ squares.coef_), -1), atol=1e-9)
    with pytest.raises(ConfigError, match="the reward is not linear in the features"):
        world.optimum(0.5)
