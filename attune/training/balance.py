"""The load of a model's experts over a whole update: counted without gradient first, then a constant pull in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attune.core.protocols import Encoded
from attune.policies.causal import CausalPolicy
from attune.policies.experts import Experts
from attune.training.distributed import SINGLE, World
from attune.training.generators import generator_states, set_generator_states
from attune.training.sums import SHARE


class Balance:
    """Adds coefficient * balance (see policies.experts) to the gradient of an update.

    First `count`, then `settle`; every pass with gradient after that pulls, but for those inside `resting`.

    Args:
        experts: of the policy.
        coefficient: the weight of the balance, above 0.
    """

    def __init__(self, experts: Experts, coefficient: float) -> None:
        assert coefficient > 0, "a weight that does something"
        self.experts, self.coefficient = experts, coefficient

    def count(self, pieces: Iterable[Encoded], compute: Callable[[Encoded], Any], *, idle: Iterable[Encoded] = ()) -> Tensor:
        """Returns [2E+1] in float64, the loads, chances and uses of this rank's passes; nothing pulls until `settle`.

        Args:
            pieces: what this rank will compute, in order.
            compute: does a pass; with dropout it will draw the same numbers again when it is done with gradient.
            idle: passes that count nothing.
        """
        self.experts.pull = None
        drawn = generator_states()
        with torch.no_grad():
            with self.experts.counting() as counts:
                for piece in pieces:
                    compute(piece)
            for piece in idle:
                compute(piece)
        set_generator_states(drawn)
        return torch.stack(counts).sum(0).cpu() if counts else torch.zeros(2 * self.experts.num + 1, dtype=torch.float64)

    def settle(self, own: Tensor, world: World = SINGLE) -> dict[str, tuple[float, float]]:
        """Lets the passes of an update pull from now on; all ranks call it.

        Args:
            own: what `count` returned on this rank.
            world: the ranks whose passes make the update.

        Returns:
            Statistics, from rank 0: `loss/experts`, the term that is added to the loss, and `busiest_expert`, the load of the busiest one as a multiple of an
            even share.
        """
        whole = world.total({str(place): one for place, one in enumerate(own.tolist())})
        *found, n = [whole[str(place)] for place in range(len(whole))]
        if not n:
            return {}
        loads, chances = found[: self.experts.num], found[self.experts.num :]
        weight = self.coefficient * self.experts.num / n**2
        self.experts.pull = torch.tensor([weight * load for load in loads], dtype=torch.float64)
        if not world.main:
            return {}
        balance = weight * sum(load * chance for load, chance in zip(loads, chances, strict=True))
        return {"loss/experts": (balance, SHARE), "busiest_expert": (max(loads) * self.experts.num / sum(loads), SHARE)}

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside the block passes pull nothing: those that a rank runs only to keep others company."""
        pull, self.experts.pull = self.experts.pull, None
        try:
            yield
        finally:
            self.experts.pull = pull


def balance_of(policy: CausalPolicy, weight: float | None) -> Balance | None:
    """Returns what balances a policy's experts, and has the policy's passes heard; None: nothing is balanced.

    Args:
        policy: whose routers they are.
        weight: of the term; None: the model's own, where its configuration asks for it.

    Raises:
        ConfigError: a weight is given, and the model has no experts.
    """
    config = policy.model.config.get_text_config()
    if weight is None:
        weight = float(getattr(config, "router_aux_loss_coef", 0.0)) if getattr(config, "output_router_logits", False) else 0.0
    if not weight:
        return None
    policy.experts = Experts(policy.model)
    return Balance(policy.experts, weight)
