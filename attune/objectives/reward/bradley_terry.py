"""Bradley-Terry reward model, with ties and margins."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Preset, Range, Spec

Ties = Literal["half", "rao_kupper", "davidson"]


def bradley_terry(
    batch: Batch,
    *,
    ties: Ties = "half",
    tie_rate: Annotated[float, Range("(0, 1)")] = 1 / 3,
    margin: Annotated[float, Range("[0, inf)")] = 0.0,
    centring: Annotated[float, Range("[0, inf)")] = 0.0,
) -> Loss:
    """Fits a score to verdicts: the odds that one response beats another are e to the difference of their scores.

        h = r_1 - r_2,   m = margin * strength
        L = - p log W(h - m) - (1-p) log W(-h - m)   for a verdict,   - log E(h)   for a tie

        ties         W(x), a win                    E(h), a tie                              with t = tie_rate
        half         sigma(x)                       sqrt( sigma(h) sigma(-h) )
        rao_kupper   sigma(x - log theta)           (theta^2-1) sigma(h - log theta) sigma(-h - log theta)    theta = (1+t)/(1-t)
        davidson     e^(x/2) / Z(x)                 nu / Z(h),  Z(x) = e^(x/2) + e^(-x/2) + nu     nu = 2t/(1-t)

    Args:
        batch: needs reward [N], pairs [P,2] with target p [P] in [0,1], tie [P], and strength [P] read where graded [P].
        ties: how a tie is explained; "half" counts it as half a win for each.
        tie_rate: t, how often two equally good responses tie; read by rao_kupper and davidson.
        margin: difference of scores asked for per unit of strength.
        centring: weight of (r_1 + r_2)^2, which keeps scores near 0 where only differences are learned.

    Returns:
        One or two terms [P], counted by pairs.

    Source: Bradley and Terry 1952; Rao and Kupper 1967; Davidson 1970; margin: Touvron et al. 2023, Eq. 2; centring: Eisenstein et al. 2023, Eq. 2.
    """
    reward_N = batch.get("reward")
    h_P = batch.margin(reward_N)
    p_P, tie_P = batch.get("target").to(h_P.dtype), batch.get("tie")
    asked_P = margin * torch.where(batch.get("graded"), batch.get("strength").to(h_P.dtype), 0.0)
    verdict_P = p_P * _win_nll(h_P - asked_P, ties, tie_rate) + (1 - p_P) * _win_nll(-h_P - asked_P, ties, tie_rate)
    fit = Term(torch.where(tie_P, _tie_nll(h_P, ties, tie_rate), verdict_P), "pairs")
    if not centring:
        return Loss((fit,))
    first_P, second_P = batch.sides(reward_N)
    return Loss((fit, Term(centring * torch.square(first_P + second_P), "pairs")))


def _win_nll(x_P: Tensor, ties: Ties, tie_rate: float) -> Tensor:
    if ties == "davidson":
        return _davidson_log_z(x_P, tie_rate) - x_P / 2
    return -logsigmoid(x_P - (_log_theta(tie_rate) if ties == "rao_kupper" else 0.0))


def _tie_nll(h_P: Tensor, ties: Ties, tie_rate: float) -> Tensor:
    if ties == "davidson":
        return _davidson_log_z(h_P, tie_rate) - math.log(2 * tie_rate / (1 - tie_rate))
    if ties == "half":
        return -(logsigmoid(h_P) + logsigmoid(-h_P)) / 2
    log_theta = _log_theta(tie_rate)
    return -logsigmoid(h_P - log_theta) - logsigmoid(-h_P - log_theta) - math.log(math.expm1(2 * log_theta))


def _log_theta(tie_rate: float) -> float:
    return math.log1p(tie_rate) - math.log1p(-tie_rate)


def _davidson_log_z(x_P: Tensor, tie_rate: float) -> Tensor:
    log_nu = torch.full_like(x_P, math.log(2 * tie_rate / (1 - tie_rate)))
    return torch.logsumexp(torch.stack((x_P / 2, -x_P / 2, log_nu)), 0)


SPEC = Spec(
    fn=bradley_terry,
    paper=Paper(
        "Rank Analysis of Incomplete Block Designs: I. The Method of Paired Comparisons (Biometrika 39)",
        1952,
        None,
        "the model; as a loss Ouyang et al. 2022, Eq. 1",
    ),
    needs=("reward", "pairs", "target", "tie", "strength", "graded"),
    conventions=Conventions(logp="none", reference="none", count="pairs"),
    use_when="A score per response is wanted: to rank samples, to filter, or as the reward of a later stage.",
    avoid_when="Preferences are not a matter of one scale: cycles, or annotators who want different things.",
    deviations=(
        "Rao-Kupper's theta and Davidson's nu are given through the rate of ties between equals, which can be read off the data and means the same in both.",
    ),
    presets={
        "rao_kupper": Preset({"ties": "rao_kupper"}, "Rao and Kupper 1967, Ties in paired-comparison experiments (JASA 62)"),
        "davidson": Preset({"ties": "davidson"}, "Davidson 1970, On extending the Bradley-Terry model to accommodate ties (JASA 65)"),
        "videoalign": Preset({"ties": "rao_kupper", "tie_rate": 2 / 3}, "Liu et al. 2025, 2501.13918, Eq. 1: theta = 5, that is a tie rate of 2/3"),
        "llama2_margin": Preset({"margin": 1.0}, "Touvron et al. 2023, 2307.09288, Eq. 2 with its large margins: grades 3, 2, 1, 0 as strengths"),
        "llama2_margin_small": Preset({"margin": 1 / 3}, "Touvron et al. 2023, 2307.09288, Eq. 2 with its small margins: a third of grades 3, 2, 1, 0"),
        "centred_bradley_terry": Preset({"centring": 0.01}, "Eisenstein et al. 2023, 2312.09244, Eq. 2; the weight is the one that TRL recommends"),
    },
)
