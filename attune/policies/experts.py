"""Mixtures of experts: which experts an update's tokens are routed to, and a pull towards equal load, exact for every split of the update.

Letters: E experts, Y routers (layers with experts), L tokens of a line, N rows.

    load_e = sum over tokens and routers of uses [e chosen],  chance_e = sum of uses p_e,  balance = E sum_e load_e chance_e / n^2

over all tokens of an update, with n = Y * sum of uses: the loss of transformers (load_balancing_loss_func) with the rows of the whole update in one
padded batch. A token that several rows share counts once for each of them, so that neither the layout nor the split changes the value.

The loads have no gradient, so once they are known for the whole update, d balance / d chance_e = E load_e / n^2 is a constant for each pass. It is
carried into the backward pass by the routers' own scores: the engine's passes need not know of it.

Source: Fedus, Zoph and Shazeer 2022, Switch Transformers, arXiv 2101.03961, Eq. 4-6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attune.core.errors import ConfigError
from attune.policies.packing import Packed


class Experts:
    """The routers of a model, listened to while they compute.

    Args:
        model: of transformers, without adapter around it.

    Attributes:
        num: E.
        chosen: experts that a token is sent to by each router.
        pull: [E], the derivative of the loss by each chance_e; None: nothing is pulled.

    Raises:
        ConfigError: the model is no mixture of experts, or its routers are not of a kind that is known here.
    """

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        kind, self._logits = _recorded(model.base_model)
        routers = [part for part in model.base_model.modules() if kind is not None and isinstance(part, kind)]
        num = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
        if not routers or num is None:
            raise ConfigError("the model has no experts to balance", field="train.balance_experts", value=config.model_type, allowed="a mixture of experts")
        self.num, self.chosen = int(num), int(config.num_experts_per_tok)
        self.pull: Tensor | None = None
        self._uses_L: Tensor | None = None
        self._counts: list[Tensor] | None = None
        for router in routers:
            router.register_forward_hook(self._heard)

    def begin(self, encoded: Packed) -> None:
        """Notes what the next pass reads; it holds for its backward pass as well, in which layers may be computed again."""
        self._uses_L = uses(encoded)

    @contextmanager
    def counting(self) -> Iterator[list[Tensor]]:
        """Gives a list to which each router of each pass inside the block adds [2E+1] in float64: its loads, chances, and uses."""
        self._counts = []
        try:
            yield self._counts
        finally:
            self._counts = None

    def _heard(self, router: torch.nn.Module, inputs: Any, outputs: Any) -> Any:
        """Counts what a router did, or lets its scores carry the pull; in other passes nothing."""
        pulls = self.pull is not None and torch.is_grad_enabled()
        if self._uses_L is None or not (pulls or self._counts is not None):
            return None
        logits_LE = outputs[self._logits]
        chance_LE = torch.softmax(logits_LE, -1, dtype=torch.promote_types(logits_LE.dtype, torch.float32))
        uses_L = self._uses_L.to(chance_LE.device, chance_LE.dtype)
        chance_E = uses_L @ chance_LE
        if self._counts is not None:
            load_E = torch.zeros_like(chance_E).index_add_(0, chance_LE.topk(self.chosen, -1).indices.flatten(), uses_L.repeat_interleave(self.chosen))
            self._counts.append(torch.cat([load_E, chance_E.detach(), uses_L.sum()[None]]).double())
        if not pulls:
            return None
        assert self.pull is not None, "what pulls"
        carried = (self.pull.to(chance_E) * chance_E).sum()
        place = next((place for place, one in enumerate(outputs) if place != self._logits and one.is_floating_point() and one.requires_grad), None)
        carry: Callable[[Tensor, Tensor], Tensor] = _Carry.apply
        return outputs if place is None else tuple(carry(one, carried) if at == place else one for at, one in enumerate(outputs))


class _Carry(torch.autograd.Function):
    """Hands the first argument on, and in the backward pass gives the second one the derivative 1."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, carried: Tensor) -> Tensor:
        ctx.set_materialize_grads(True)
        ctx.like = carried.dtype, carried.device
        return scores.view_as(scores)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        dtype, device = ctx.like
        return grad, torch.ones((), dtype=dtype, device=device)


def uses(encoded: Packed) -> Tensor:
    """Returns [L], how many rows each token of the line belongs to; 0 for padding."""
    sight = encoded.line.sight.flatten()
    if encoded.line.layout == "plain":
        return sight
    ends = encoded.last.sort().values
    first = torch.searchsorted(ends, torch.arange(len(sight), device=sight.device))
    return torch.searchsorted(ends, sight) - first  # rows that end where the token is seen


def _recorded(base: Any) -> tuple[Any, int]:
    """Returns the class of a model's routers, and where in their output the logits stand, from what transformers records of them."""
    recorded = (getattr(base, "_can_record_outputs", None) or {}).get("router_logits")
    return getattr(recorded, "target_class", None), int(getattr(recorded, "index", 0) or 0)
