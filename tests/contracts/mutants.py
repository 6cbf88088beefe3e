"""Mistakes of the kind that train the wrong thing with a normal-looking curve, planted one at a time into methods that are right.

Each mutant names the method it spoils and the check that must catch it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch.nn.functional import logsigmoid

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Method, Range, method
from attune.objectives.demonstration.sft import sft
from attune.objectives.pairwise.dpo import dpo
from attune.objectives.pointwise.kto import kto
from attune.objectives.reward.bradley_terry import Ties, bradley_terry

Positive = Annotated[float, Range("(0, inf)")]
Share = Annotated[float, Range("[0, 0.5)")]


@dataclass(frozen=True)
class Mutant:
    """A spoilt method."""

    fn: Callable[..., Loss] | None
    of: str
    caught_by: str
    says: str
    # a part of what the check then says, so that it is caught for the right reason
    spec: dict[str, Any] = field(default_factory=dict)
    # fields of the Spec that are spoilt instead of, or with, the function
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or (self.fn.__name__ if self.fn else self.of)

    def method(self) -> Method:
        """Returns the method under its own name, spoilt."""
        right = method(self.of)
        changes = {**self.spec, **({"fn": self.fn} if self.fn else {})}
        return replace(right, spec=replace(right.spec, **changes))


def _dpo(h_P: torch.Tensor, batch: Batch) -> Loss:
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * logsigmoid(h_P) - (1 - p_P) * logsigmoid(-h_P), "pairs"),))


def sign_flipped(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return dpo(batch.with_columns(target=1 - batch.get("target")), beta=beta, label_smoothing=label_smoothing)


def mask_forgotten(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * batch.margin((batch.get("logp") - batch.get("ref_logp")).sum(-1)), batch)


def mask_multiplied(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * batch.margin(((batch.get("logp") - batch.get("ref_logp")) * batch.get("mask")).sum(-1)), batch)


def mask_from_values(batch: Batch, *, beta: Positive = 2.0, gamma: Annotated[float, Range("[0, inf)")] = 1.0) -> Loss:
    length_N = (batch.get("logp").nan_to_num() != 0).sum(-1)
    h_P = beta * batch.margin(batch.total("logp") / length_N)
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * logsigmoid(h_P - gamma) - (1 - p_P) * logsigmoid(-h_P - gamma), "pairs"),))


def padding_in_length(batch: Batch, *, beta: Positive = 2.0, gamma: Annotated[float, Range("[0, inf)")] = 1.0) -> Loss:
    h_P = beta * batch.margin(batch.total("logp") / batch.get("mask").shape[1])
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * logsigmoid(h_P - gamma) - (1 - p_P) * logsigmoid(-h_P - gamma), "pairs"),))


def batch_mean_for_row_mean(batch: Batch, *, beta: Positive = 2.0, gamma: Annotated[float, Range("[0, inf)")] = 1.0) -> Loss:
    h_P = beta * batch.margin(batch.total("logp") / batch.length.double().mean())
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * logsigmoid(h_P - gamma) - (1 - p_P) * logsigmoid(-h_P - gamma), "pairs"),))


def overflowing_softplus(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    h_P = beta * batch.margin(batch.log_ratio())
    q_P = (1 - label_smoothing) * batch.get("target") + label_smoothing * (1 - batch.get("target"))
    return Loss((Term(q_P * torch.log(1 + torch.exp(-h_P)) + (1 - q_P) * torch.log(1 + torch.exp(h_P)), "pairs"),))


def log_of_sigmoid(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    h_P = beta * batch.margin(batch.log_ratio())
    p_P = batch.get("target").to(h_P.dtype)
    return Loss((Term(-p_P * torch.sigmoid(h_P).log() - (1 - p_P) * torch.sigmoid(-h_P).log(), "pairs"),))


def log_of_sigmoid_with_a_floor(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    h_P = beta * batch.margin(batch.log_ratio())
    q_P = (1 - label_smoothing) * batch.get("target") + label_smoothing * (1 - batch.get("target"))
    return Loss((Term(-q_P * (torch.sigmoid(h_P) + 1e-5).log() - (1 - q_P) * (torch.sigmoid(-h_P) + 1e-5).log(), "pairs"),))


def undeclared_need(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * batch.margin(batch.log_ratio()) - torch.where(batch.get("graded"), batch.get("strength"), 0.0), batch)


def reference_forgotten(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    free = batch.with_columns(ref_logp=torch.zeros_like(batch.get("logp")))
    return dpo(free, beta=beta, label_smoothing=label_smoothing)


def wrong_constant(batch: Batch, *, tau: Positive = 0.1, logp: str = "sum") -> Loss:
    ratio_N = batch.log_ratio() / (batch.length.clamp(min=1) if logp == "mean" else 1)
    h_P, p_P = batch.margin(ratio_N), batch.get("target")
    return Loss((Term(p_P * torch.square(h_P - 1 / tau) + (1 - p_P) * torch.square(h_P + 1 / tau), "pairs"),))


def mean_for_sum(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    ratio_NT = (batch.get("logp") - batch.get("ref_logp")) / batch.length.clamp(min=1)[:, None]
    return dpo(batch.with_columns(logp=ratio_NT, ref_logp=torch.zeros_like(ratio_NT)), beta=beta, label_smoothing=label_smoothing)


def smoothing_on_the_wrong_side(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return dpo(batch, beta=beta, label_smoothing=1 - label_smoothing if label_smoothing else 0.0)


def counted_by_rows(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return Loss(tuple(Term(term.value, "rows") for term in dpo(batch, beta=beta, label_smoothing=label_smoothing).terms))


def divides_itself(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return Loss(tuple(Term(term.value.mean(), 1.0) for term in dpo(batch, beta=beta, label_smoothing=label_smoothing).terms))


def unknown_count(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return Loss(tuple(Term(term.value, "sequences") for term in dpo(batch, beta=beta, label_smoothing=label_smoothing).terms))


def statistic_holds_the_graph(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    found = dpo(batch, beta=beta, label_smoothing=label_smoothing)
    return Loss(found.terms, {"margin": Term(batch.margin(batch.log_ratio()), "pairs")})


def writes_to_the_batch(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    batch.get("target").mul_(1 - label_smoothing).add_(0.01)
    return dpo(batch, beta=beta)


def narrows_the_precision(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * batch.margin(batch.log_ratio()).float(), batch)


def no_range(batch: Batch, *, beta: float = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return dpo(batch, beta=beta, label_smoothing=label_smoothing)


def ignored_parameter(batch: Batch, *, beta: Positive = 0.1, label_smoothing: Share = 0.0) -> Loss:
    return dpo(batch, beta=0.1, label_smoothing=label_smoothing)


def rows_sorted_by_value(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * batch.margin(batch.log_ratio()).sort().values, batch)


def _kto(batch: Batch, z0: torch.Tensor, beta: float, lambda_d: float, lambda_u: float) -> Loss:
    gain_N = beta * (batch.log_ratio() - z0)
    loss_N = torch.where(batch.get("label"), lambda_d * torch.sigmoid(-gain_N), lambda_u * torch.sigmoid(gain_N))
    return Loss((Term(torch.where(batch.get("labelled"), loss_N, 0.0), "labelled_rows"),))


def gradient_through_the_reference_point(batch: Batch, *, beta: Positive = 0.1, lambda_d: float = 1.0, lambda_u: float = 1.0) -> Loss:
    apart_N = batch.rows("mismatched")
    z0 = (torch.where(apart_N, batch.log_ratio(), 0.0).sum() / apart_N.sum().clamp(min=1)).clamp(min=0)
    return _kto(batch, z0, beta, lambda_d, lambda_u)


def reference_point_not_clamped(batch: Batch, *, beta: Positive = 0.1, lambda_d: float = 1.0, lambda_u: float = 1.0) -> Loss:
    apart_N = batch.rows("mismatched")
    z0 = (torch.where(apart_N, batch.log_ratio(), 0.0).sum() / apart_N.sum().clamp(min=1)).detach()
    return _kto(batch, z0, beta, lambda_d, lambda_u)


def reference_point_from_all_rows(batch: Batch, *, beta: Positive = 0.1, lambda_d: float = 1.0, lambda_u: float = 1.0) -> Loss:
    return _kto(batch, batch.log_ratio().mean().clamp(min=0).detach(), beta, lambda_d, lambda_u)


def absence_read_as_undesirable(batch: Batch, *, beta: Positive = 0.1, lambda_d: float = 1.0, lambda_u: float = 1.0) -> Loss:
    everyone = batch.with_columns(labelled=batch.rows())
    return Loss(tuple(Term(term.value, "rows") for term in kto(everyone, beta=beta, lambda_d=lambda_d, lambda_u=lambda_u).terms))


def tie_trained_as_a_win(batch: Batch, *, ties: Ties = "half", tie_rate: float = 1 / 3, margin: float = 0.0, centring: float = 0.0) -> Loss:
    tie_P = batch.get("tie")
    won = batch.with_columns(tie=torch.zeros_like(tie_P), target=torch.where(tie_P, 1.0, batch.get("target")))
    return bradley_terry(won, ties=ties, tie_rate=tie_rate, margin=margin, centring=centring)


def target_ignored(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    batch.get("target")
    return Loss((Term(-logsigmoid(beta * batch.margin(batch.log_ratio())), "pairs"),))


def absent_strength_read(batch: Batch, *, ties: Ties = "half", tie_rate: float = 1 / 3, margin: float = 0.0, centring: float = 0.0) -> Loss:
    every = batch.with_columns(graded=torch.ones_like(batch.get("graded")))
    return bradley_terry(every, ties=ties, tie_rate=tie_rate, margin=margin, centring=centring)


def centred_on_the_batch(batch: Batch, *, ties: Ties = "half", tie_rate: float = 1 / 3, margin: float = 0.0, centring: float = 0.01) -> Loss:
    fit = bradley_terry(batch, ties=ties, tie_rate=tie_rate, margin=margin)
    num = batch.get("pairs").shape[0]
    return Loss((*fit.terms, Term(centring * batch.get("reward").mean().square().expand(num), "pairs")))


class _HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad / 2


_halved: Callable[[torch.Tensor], torch.Tensor] = _HalfGradient.apply


def gradient_of_another_loss(batch: Batch, *, beta: Positive = 0.1) -> Loss:
    return _dpo(beta * _halved(batch.margin(batch.log_ratio())), batch)


def tokens_counted_as_rows(batch: Batch, *, per: str = "token") -> Loss:
    return Loss(tuple(Term(term.value, "demo_rows") for term in sft(batch, per="token").terms))


MUTANTS = (
    Mutant(sign_flipped, "dpo", "direction", "preferred rows move by"),
    Mutant(mask_forgotten, "dpo", "padding", "reads cells outside the mask"),
    Mutant(mask_multiplied, "dpo", "padding", "reads cells outside the mask"),
    Mutant(mask_from_values, "simpo", "extremes", "the loss is nan"),
    Mutant(padding_in_length, "simpo", "padding", "how far rows are padded"),
    Mutant(batch_mean_for_row_mean, "simpo", "splits", "depends on the split"),
    Mutant(centred_on_the_batch, "bradley_terry", "splits", "depends on the split"),
    Mutant(None, "kto", "splits", "depends on the split", {"coupling": "example"}, "coupling_not_declared"),
    Mutant(overflowing_softplus, "dpo", "extremes", "the loss is nan"),
    Mutant(log_of_sigmoid, "dpo", "extremes", "the loss is nan"),
    Mutant(log_of_sigmoid_with_a_floor, "dpo", "golden", "h = 0.3"),
    Mutant(undeclared_need, "dpo", "needs", "does not name: graded"),
    Mutant(None, "dpo", "needs", "never read", {"needs": ("logp", "ref_logp", "pairs", "target", "annotator")}, "needless_need"),
    Mutant(reference_forgotten, "dpo", "needs", "names 'ref_logp'"),
    Mutant(wrong_constant, "ipo", "golden", "49.0 is not 4.0"),
    Mutant(mean_for_sum, "dpo", "golden", "h = 0.3"),
    Mutant(smoothing_on_the_wrong_side, "dpo", "golden", "label smoothing 0.2"),
    Mutant(counted_by_rows, "dpo", "unreduced", "counted by the wrong thing"),
    Mutant(tokens_counted_as_rows, "sft", "golden", "3.0 is not 2.0"),
    Mutant(divides_itself, "dpo", "unreduced", "divided inside the method"),
    Mutant(unknown_count, "dpo", "legal_terms", "'sequences' is no count"),
    Mutant(statistic_holds_the_graph, "dpo", "legal_terms", "holds on to the graph"),
    Mutant(writes_to_the_batch, "dpo", "pure", "two calls differ"),
    Mutant(narrows_the_precision, "dpo", "keeps_dtype", "torch.float32 out"),
    Mutant(no_range, "dpo", "refuses", "beta has no range"),
    Mutant(ignored_parameter, "dpo", "settings_matter", "beta changes nothing"),
    Mutant(gradient_of_another_loss, "dpo", "gradcheck", "along a direction"),
    Mutant(rows_sorted_by_value, "dpo", "order", "do not follow"),
    Mutant(gradient_through_the_reference_point, "kto", "golden", "gradient of logp"),
    Mutant(reference_point_not_clamped, "kto", "golden", "clamped to z0 = 0"),
    Mutant(reference_point_from_all_rows, "kto", "golden", "z0 = 1"),
    Mutant(absence_read_as_undesirable, "kto", "padding", "reads cells outside the mask"),
    Mutant(tie_trained_as_a_win, "bradley_terry", "antisymmetry", "swapped pairs differs"),
    Mutant(target_ignored, "dpo", "antisymmetry", "swapped pairs differs"),
    Mutant(absent_strength_read, "bradley_terry", "padding", "reads cells outside the mask"),
)
