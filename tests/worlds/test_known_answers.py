"""Training by the engine reaches the answers that the worlds know in closed form or by convex optimisation."""

import copy
import math

import pytest
import torch

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core import spec
from attune.signals.pairs.all_pairs import all_pairs
from attune.training.engine import train
from attune.training.source import take
from attune.training.update import Learner, Objective
from attune.worlds.annotators import Annotator, DavidsonAnnotator
from attune.worlds.linear import random_linear_world
from attune.worlds.tabular import random_world

TABULAR = random_world(2, 4, seed=7, spread=0.7)
LINEAR = random_linear_world(2, 5, 3, seed=7, spread=0.7)
BENT = random_linear_world(2, 5, 3, seed=7, spread=0.7, misfit=0.5)
# its reward is not linear in the features


def trained(world, objective, *, groups=None, signal=None, updates=200, lr=0.3, **params):
    """Returns the world's policy after training on all pairs."""
    found = spec.method(objective)
    policy = world.policy()
    items, intake = take(groups or world.groups(), signal or world.population, policy, found.spec.needs)
    assert intake.kept == len(world.groups())
    frozen = {"ref_logp": copy.deepcopy(policy)} if "ref_logp" in found.spec.needs else {}
    learner = Learner(policy, [Objective(objective, found.spec, {**found.params, **params})], frozen=frozen)
    loop = TrainConfig(updates=updates, groups_per_update=len(items))
    train(learner, items, optim=OptimConfig(lr=lr, warmup=0.05, clip_norm=None), loop=loop)
    return policy


def centred(score_XY):
    return score_XY - score_XY.mean(-1, keepdim=True)


@pytest.mark.parametrize(("world", "beta"), [(TABULAR, 0.5), (LINEAR, 1.0)], ids=["tabular", "linear"])
def test_dpo_reaches_the_regularised_optimum(world, beta):
    logp_XY = trained(world, "dpo", beta=beta).module().detach()
    expected = world.optimum(beta)
    assert (world.kl(expected) > 0.02).all()
    assert torch.allclose(logp_XY, expected, atol=1e-3)
    assert world.expected_reward(logp_XY).tolist() == pytest.approx(world.expected_reward(expected).tolist(), abs=1e-3)
    assert world.kl(logp_XY).tolist() == pytest.approx(world.kl(expected).tolist(), abs=1e-3)


def test_dpo_reaches_the_best_of_a_family_that_lacks_the_optimum():
    logp_XY = trained(BENT, "dpo", beta=0.5).module().detach()
    assert torch.allclose(logp_XY, BENT.dpo_optimum(0.5), atol=1e-3)


@pytest.mark.parametrize(("world", "tau"), [(TABULAR, 0.3), (BENT, 1.0)], ids=["tabular", "bent"])
def test_ipo_reaches_its_optimum(world, tau):
    logp_XY = trained(world, "ipo", tau=tau).module().detach()
    assert torch.allclose(logp_XY, world.ipo_optimum(tau), atol=1e-3)


def test_a_reward_model_recovers_differences_of_the_true_reward():
    assert torch.allclose(centred(trained(TABULAR, "bradley_terry").module.scores().detach()), centred(TABULAR.reward), atol=1e-3)
    assert torch.allclose(centred(trained(LINEAR, "bradley_terry").module.scores().detach()), centred(LINEAR.reward), atol=1e-3)
    assert torch.allclose(centred(trained(BENT, "bradley_terry").module.scores().detach()), BENT.reward_optimum(), atol=1e-3)


TIE_RATE = 0.25
ANNOTATORS = {
    "rao_kupper": lambda i: Annotator(id=str(i), tie_threshold=math.log((1 + TIE_RATE) / (1 - TIE_RATE))),
    "davidson": lambda i: DavidsonAnnotator(id=str(i), tie_rate=TIE_RATE),
}


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_a_reward_model_with_ties_recovers_differences_from_verdicts(ties):
    groups = TABULAR.judged([ANNOTATORS[ties](i) for i in range(200)], seed=0)
    policy = trained(TABULAR, ties, groups=groups, signal=lambda group: all_pairs(group, ties="keep"), updates=80, tie_rate=TIE_RATE)
    error_XY = centred(policy.module.scores().detach()) - centred(TABULAR.reward)
    # a score rests on 600 verdicts that tell about 0.2 each: a standard error of 0.09
    assert error_XY.abs().max() < 0.3
    assert error_XY.square().mean().sqrt() < 0.12
