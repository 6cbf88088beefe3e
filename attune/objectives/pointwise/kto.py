"""Kahneman-Tversky optimisation."""

from __future__ import annotations

from typing import Annotated

import torch

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Range, Spec


def kto(
    batch: Batch,
    *,
    beta: Annotated[float, Range("(0, inf)")] = 0.1,
    lambda_d: Annotated[float, Range("[0, inf)")] = 1.0,
    lambda_u: Annotated[float, Range("[0, inf)")] = 1.0,
) -> Loss:
    """Raises the human value of each response on its own: gains and losses are felt against a reference point, and level off.

        r = log( pi(y|x) / pi_ref(y|x) ),   z0 = max(0, mean of r over mismatched rows)
        v = lambda_d sigma( beta (r - z0) ) if desirable,  lambda_u sigma( beta (z0 - r) ) if not
        L = lambda_y - v

    Args:
        batch: needs logp, ref_logp (nats, [N,T]), label and labelled [N], and rows of the role "mismatched".
        beta: how fast the value levels off; the larger, the more averse to risk.
        lambda_d: weight of desirable responses.
        lambda_u: weight of undesirable ones. The paper asks for lambda_d n_d / (lambda_u n_u) in [1, 3/2].

    Returns:
        One term [N], 0 at rows without a label, counted by labelled_rows; the reference point before its clamp as a statistic.

    Source: Ethayarajh et al. 2024, Eq. 8 and the estimate of z0 below it.
    """
    ratio_N = batch.log_ratio()
    mismatched_N = batch.rows("mismatched")
    num_mismatched = mismatched_N.sum().clamp(min=1)
    kl_N = torch.where(mismatched_N, ratio_N.detach(), 0.0)
    z0 = (kl_N.sum() / num_mismatched).clamp(min=0)
    # lambda - lambda sigma(x) = lambda sigma(-x), which does not cancel when the value is nearly full.
    loss_N = torch.where(batch.get("label"), lambda_d * torch.sigmoid(beta * (z0 - ratio_N)), lambda_u * torch.sigmoid(beta * (ratio_N - z0)))
    return Loss((Term(torch.where(batch.get("labelled"), loss_N, 0.0), "labelled_rows"),), {"kl_mismatched": Term(kl_N, num_mismatched)})


SPEC = Spec(
    fn=kto,
    paper=Paper("KTO: Model Alignment as Prospect Theoretic Optimization", 2024, "2402.01306", "Eq. 8", "ContextualAI/HALOs"),
    needs=("logp", "ref_logp", "label", "labelled"),
    conventions=Conventions(
        logp="sum", reference="subtracted from each response's log-probability; its mean over mismatched rows is the reference point", count="labelled rows"
    ),
    use_when="Feedback is thumbs up or down on single responses, perhaps far from balanced; or pairs whose verdicts are noisy.",
    avoid_when="Batches are tiny: the reference point is a mean over the batch, and of a single group there is none.",
    coupling="batch",
    rows=("mismatched",),
    deviations=("Without a mismatched row (a batch of one group) the reference point is 0, its value at the start of training.",),
)
