"""A world of finitely many prompts and responses, whose optima are known in closed form. Letters: X prompts, Y responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from attune.core.record import Group
from attune.core.signal import Pair, Signal
from attune.worlds.annotators import Annotator, judge
from attune.worlds.finite import FinitePolicy, Softmax, Table, finite_group


@dataclass(frozen=True, slots=True)
class TabularWorld:
    """A reference policy and a true reward over a finite set; prompts are equally likely."""

    reference: Tensor
    # [X,Y] float64, log pi_ref(y|x), nats
    reward: Tensor
    # [X,Y] float64, r(x,y), in the unit in which annotators compare (nats of their log-odds)

    def policy(self) -> FinitePolicy:
        """Returns a policy with a free score for each response, which starts as the reference; as a reward model it starts at 0."""
        return FinitePolicy(Softmax(self.reference, Table(*self.reward.shape)))

    def groups(self) -> list[Group]:
        """Returns a group for each prompt, with every response and no verdict."""
        num_prompts, num_responses = self.reward.shape
        return [finite_group(x, num_responses) for x in range(num_prompts)]

    def preference(self) -> Tensor:
        """Returns [X,Y,Y], the true P(i beats j) = sigma(r_i - r_j)."""
        return torch.sigmoid(self.reward[:, :, None] - self.reward[:, None, :])

    def population(self, group: Group) -> Signal:
        """Returns all pairs of a group of this world with their true preference as target: what infinitely many verdicts would say."""
        p_YY = self.preference()[int(str(group.prompt.content))].tolist()
        pairs = combinations(range(len(group.responses)), 2)
        return Signal(pairs=tuple(Pair(first=i, second=j, target=p_YY[i][j]) for i, j in pairs))

    def judged(self, annotators: Sequence[Annotator], *, num_pairs: int | None = None, seed: int = 0) -> list[Group]:
        """Returns the groups with sampled verdicts of annotators who judge by the true reward; see annotators.judge."""
        reward = self.reward.tolist()
        return judge(self.groups(), annotators, lambda group, y: reward[int(str(group.prompt.content))][y], num_pairs=num_pairs, seed=seed)

    def optimum(self, beta: float) -> Tensor:
        """The policy that maximises the regularised reward, which DPO with exact preferences reaches as well.

            max_pi  E_pi[r] - beta KL(pi || pi_ref)   at   pi*(y|x) = pi_ref(y|x) exp( r(x,y) / beta ) / Z(x)

        DPO's loss with target sigma(r_i - r_j) is least where beta times the log-ratio margin is r_i - r_j, for all pairs at once: at pi*.

        Args:
            beta: nats of reward per nat of divergence, above 0.

        Returns:
            [X,Y] log pi*, nats.

        Source: Rafailov et al. 2023, Eq. 4.
        """
        return torch.log_softmax(self.reference + self.reward / beta, -1)

    def ipo_optimum(self, tau: float) -> Tensor:
        """The policy that IPO on all pairs with exact preferences reaches.

            pi(y|x) = pi_ref(y|x) exp( b(x,y) / tau ) / Z(x),   b(x,y) = 1/Y sum_y' P(y beats y'),   P(y beats y) = 1/2

        With log-ratios u, the loss of a pair is (u_i - u_j - c_ij)^2 plus a constant, c_ij = (P_ij - 1/2) / tau. The c of three pairs need not
        add up, so not every margin can be c. The sum over all pairs is least at u_i = 1/Y sum_j c_ij, up to a constant that Z takes up. With two
        responses the margin is c itself: (b_1 - b_2) / tau = (P_12 - P_21) / (2 tau) = (P_12 - 1/2) / tau.

        Args:
            tau: IPO's regularisation, above 0.

        Returns:
            [X,Y] log-probabilities, nats.

        Source: Azar et al. 2023, Eq. 7, with the identity for Psi and a uniform distribution of opponents.
        """
        return torch.log_softmax(self.reference + self.preference().mean(-1) / tau, -1)

    def expected_reward(self, logp_XY: Tensor) -> Tensor:
        """Returns [X], E[r(x,y)] of a policy given by its log-probabilities."""
        return (logp_XY.exp() * self.reward).sum(-1)

    def kl(self, logp_XY: Tensor) -> Tensor:
        """Returns [X], KL(pi || pi_ref) in nats of a policy given by its log-probabilities, none of them -inf."""
        return (logp_XY.exp() * (logp_XY - self.reference)).sum(-1)


def random_world(num_prompts: int, num_responses: int, *, seed: int, spread: float = 1.0) -> TabularWorld:
    """Returns a world with normal reference logits and rewards, both of standard deviation `spread`."""
    generator = torch.Generator().manual_seed(seed)
    logit_XY, reward_XY = spread * torch.randn(2, num_prompts, num_responses, dtype=torch.float64, generator=generator)
    return TabularWorld(torch.log_softmax(logit_XY, -1), reward_XY)
