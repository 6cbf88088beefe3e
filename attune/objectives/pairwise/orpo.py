"""Odds ratio preference optimisation."""

from __future__ import annotations

from typing import Annotated

import torch
from torch.nn.functional import logsigmoid

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Range, Spec


def orpo(batch: Batch, *, lambda_or: Annotated[float, Range("[0, inf)")] = 0.1) -> Loss:
    """Imitates the preferred response and, in the same step, raises its odds over those of the other one, without a reference.

        m = log pi(y|x) / |y|,   odds = e^m / (1 - e^m),   h = log( odds_1 / odds_2 )
        L = p ( -m_1 - lambda log sigma(h) ) + (1-p) ( -m_2 - lambda log sigma(-h) )

    Args:
        batch: needs logp (nats, [N,T]) and pairs [P,2] with their target p [P] in [0,1].
        lambda_or: lambda, the weight of the odds ratio beside the imitation.

    Returns:
        One term [P], counted by pairs; the two parts as statistics.

    Source: Hong, Lee and Thorne 2024, Eqs. 4, 6 and 7.
    """
    mean_N = batch.mean("logp")
    # Beyond this the precision cannot tell the probability from 1, whose odds are infinite.
    sure_N = mean_N.clamp(max=-torch.finfo(mean_N.dtype).eps)
    # log(-expm1(m)) is exact near 0, and for very negative m its error is absolute and below one rounding step of m.
    h_P = batch.margin(sure_N - torch.log(-torch.expm1(sure_N)))
    p_P = batch.get("target").to(h_P.dtype)
    first_P, second_P = batch.sides(mean_N)
    nll_P = -p_P * first_P - (1 - p_P) * second_P
    odds_P = -p_P * logsigmoid(h_P) - (1 - p_P) * logsigmoid(-h_P)
    return Loss((Term(nll_P + lambda_or * odds_P, "pairs"),), {"nll": Term(nll_P.detach(), "pairs"), "log_odds_ratio": Term(h_P.detach(), "pairs")})


SPEC = Spec(
    fn=orpo,
    paper=Paper("ORPO: Monolithic Preference Optimization without Reference Model", 2024, "2403.07691", "Eqs. 4, 6, 7", "xfactlab/orpo"),
    needs=("logp", "pairs", "target"),
    conventions=Conventions(logp="mean", reference="none", count="pairs"),
    use_when="One stage from a base model: the preferred responses are good enough to imitate, and no reference fits in memory.",
    avoid_when="The preferred responses are merely the better of two bad ones: they are imitated all the same.",
    deviations=(
        "The imitation is a mean over each preferred response's tokens, then over pairs, as the expectation reads; peers take one mean over all tokens.",
        "A target p in [0,1] per pair weights both parts, so a tie imitates both responses equally.",
        "A mean log-probability closer to 0 than the precision's epsilon counts as epsilon below it, where the odds would be infinite.",
    ),
)
