"""The finite world with shared parameters: a softmax that is linear in features. Letters: X prompts, Y responses, D features, P pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attune.core.errors import ConfigError
from attune.worlds.finite import FinitePolicy, Linear, Softmax
from attune.worlds.tabular import TabularWorld, random_world

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinearWorld(TabularWorld):
    """Policies pi(y|x) ~ pi_ref(y|x) exp(f(x,y).w) and rewards f(x,y).w; with one-hot features the tabular world.

    The optima below are those within the family: what training can reach. The true reward need not be linear in the features.
    """

    features: Tensor
    # [X,Y,D] float64

    def policy(self) -> FinitePolicy:
        """Returns a policy with weights 0, which is the reference; as a reward model it starts at 0."""
        return FinitePolicy(Softmax(self.reference, Linear(self.features)))

    def optimum(self, beta: float) -> Tensor:
        """The family's policy that maximises E[r] - beta KL(pi || pi_ref): the tabular optimum, where the family holds it.

        Where it does not, the objective is not concave in the weights and no optimum is certain.

        Returns:
            [X,Y] log-probabilities, nats.

        Raises:
            ConfigError: the reward is not linear in the features up to a constant for each prompt.
        """
        difference_PD, reward_P = self._differences(), self._margins(self.reward)
        misfit_P = difference_PD @ np.linalg.lstsq(difference_PD, reward_P)[0] - reward_P
        if np.abs(misfit_P).max() > 1e-8:
            raise ConfigError("the reward is not linear in the features", field="reward", value=float(np.abs(misfit_P).max()), allowed="a misfit of 0")
        return TabularWorld.optimum(self, beta)

    def dpo_optimum(self, beta: float) -> Tensor:
        """The policy that DPO on all pairs with exact preferences reaches within the family.

            min_w  - 1/P sum_{i<j} ( P_ij log sigma(beta d_ij.w) + P_ji log sigma(-beta d_ij.w) ),   d_ij = f(x,y_i) - f(x,y_j)

        It is convex in w and solved by Newton steps; where the reward is linear in the features it is `optimum`.

        Returns:
            [X,Y] log-probabilities, nats.
        """
        return self._tilted(self._fit_bradley_terry() / beta)

    def ipo_optimum(self, tau: float) -> Tensor:
        """The policy that IPO on all pairs with exact preferences reaches within the family: least squares.

            min_w  sum_{i<j} ( d_ij.w - (P_ij - 1/2) / tau )^2

        Returns:
            [X,Y] log-probabilities, nats.
        """
        return self._tilted(np.asarray(np.linalg.lstsq(self._differences(), (self._preferences() - 0.5) / tau)[0], dtype=np.float64))

    def reward_optimum(self) -> Tensor:
        """Returns [X,Y], the Bradley-Terry scores within the family on all pairs with exact preferences, centred on each prompt."""
        score_XY = self.features @ torch.from_numpy(self._fit_bradley_terry())
        return score_XY - score_XY.mean(-1, keepdim=True)

    def _tilted(self, weight_D: FloatArray) -> Tensor:
        return torch.log_softmax(self.reference + self.features @ torch.from_numpy(weight_D), -1)

    def _fit_bradley_terry(self) -> FloatArray:
        """Returns [D], the weights of least length that make the pairs likeliest."""
        from scipy.optimize import minimize
        from scipy.special import expit

        difference_PD, p_P = self._differences(), self._preferences()

        def loss(weight_D: FloatArray) -> float:
            h_P = difference_PD @ weight_D
            return float(np.mean(np.logaddexp(0, h_P) - p_P * h_P))

        def gradient(weight_D: FloatArray) -> FloatArray:
            return np.asarray(difference_PD.T @ (expit(difference_PD @ weight_D) - p_P) / len(p_P))

        def hessian(weight_D: FloatArray) -> FloatArray:
            q_P = expit(difference_PD @ weight_D)
            return np.asarray((difference_PD.T * (q_P * (1 - q_P))) @ difference_PD / len(p_P))

        found = minimize(loss, np.zeros(difference_PD.shape[1]), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-12})
        assert np.abs(gradient(found.x)).max() < 1e-9, "the convex problem was solved"
        return np.asarray(found.x)

    def _preferences(self) -> FloatArray:
        first, second = self._pairs()
        return _array(self.preference()[:, first, second].flatten())

    def _margins(self, value_XY: Tensor) -> FloatArray:
        first, second = self._pairs()
        return _array((value_XY[:, first] - value_XY[:, second]).flatten())

    def _differences(self) -> FloatArray:
        first, second = self._pairs()
        return _array((self.features[:, first] - self.features[:, second]).flatten(0, 1))

    def _pairs(self) -> tuple[list[int], list[int]]:
        first, second = zip(*combinations(range(self.reward.shape[1]), 2), strict=True)
        return list(first), list(second)


def _array(value: Tensor) -> FloatArray:
    return np.asarray(value.numpy(), dtype=np.float64)


def one_hot(world: TabularWorld) -> LinearWorld:
    """Returns the tabular world written with one feature for each prompt and response."""
    num_prompts, num_responses = world.reward.shape
    feature_XYD = torch.eye(num_prompts * num_responses, dtype=torch.float64).reshape(num_prompts, num_responses, -1)
    return LinearWorld(world.reference, world.reward, feature_XYD)


def random_linear_world(num_prompts: int, num_responses: int, num_features: int, *, seed: int, spread: float = 1.0, misfit: float = 0.0) -> LinearWorld:
    """Returns a world with normal features and a reward that is linear in them, plus a part that is not.

    Args:
        num_prompts, num_responses, num_features: X, Y, D.
        seed: of everything.
        spread: standard deviation of the reference's logits, and of the linear part of the reward.
        misfit: standard deviation of the rest of the reward, as a multiple of the spread.
    """
    world = random_world(num_prompts, num_responses, seed=seed, spread=spread)
    generator = torch.Generator().manual_seed(seed + 1)
    feature_XYD = torch.randn(num_prompts, num_responses, num_features, dtype=torch.float64, generator=generator)
    weight_D = torch.nn.functional.normalize(torch.randn(num_features, dtype=torch.float64, generator=generator), dim=0)
    return LinearWorld(world.reference, spread * feature_XYD @ weight_D + misfit * world.reward, feature_XYD)
