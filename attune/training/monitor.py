"""What is logged of every update whatever the objective: did it learn the preference, or move the likelihoods?

Letters: N rows, T steps, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attune.core.batch import Batch, Term


@torch.no_grad()
def monitor(batch: Batch) -> Mapping[str, Term]:
    """Returns sums and counts of the generic statistics.

    - margin: of the reward head; else of log pi/pi_ref summed over a response; else (no reference) of the mean log pi per token
    - accuracy: share of decided pairs whose margin points the right way; a margin of exactly 0 counts half
    - chosen_logp, rejected_logp: nats a response, over decided pairs; *_change: since the start
    - kl_to_ref: nats a response, see _kl
    - length, chosen_length, rejected_length: supervised tokens a response; supervised_tokens: of the whole update
    """
    main_N = batch.rows()
    length_N = batch.length.to(torch.float64)
    terms = {"length": Term(length_N[main_N], "rows"), "supervised_tokens": Term(length_N[main_N], 1.0)}
    if "logp" in batch and "ref_logp" in batch:
        terms["kl_to_ref"] = Term(_kl(batch)[main_N], "rows")
    if "pairs" not in batch:
        return terms
    decided_P = batch.decided
    sign_P = torch.where(batch.get("target") >= 0.5, 1.0, -1.0)[decided_P]
    margin_P = batch.margin(_score(batch))[decided_P] * sign_P
    terms["margin"] = Term(margin_P, "decided_pairs")
    terms["accuracy"] = Term((margin_P > 0).double() + 0.5 * (margin_P == 0).double(), "decided_pairs")
    values = {"length": length_N}
    if "logp" in batch:
        values["logp"] = batch.total("logp")
    if "logp" in batch and "start_logp" in batch:
        values["logp_change"] = values["logp"] - batch.total("start_logp")
    for name, value_N in values.items():
        first_P, second_P = (side[decided_P] for side in batch.sides(value_N))
        terms[f"chosen_{name}"] = Term(torch.where(sign_P > 0, first_P, second_P), "decided_pairs")
        terms[f"rejected_{name}"] = Term(torch.where(sign_P > 0, second_P, first_P), "decided_pairs")
    return terms


def _score(batch: Batch) -> Tensor:
    if "reward" in batch:
        return batch.get("reward")
    return batch.log_ratio() if "ref_logp" in batch else batch.mean("logp")


def _kl(batch: Batch) -> Tensor:
    """Returns [N], sum over tokens of w log w - w + 1 with w = pi/pi_ref of the token: >= 0, 0 where they agree.

    Its mean is the token-level KL(pi || pi_ref) along the data's prefixes when the reference wrote the tokens; on other data it is a
    distance, not an estimate. The evaluation on fresh samples measures KL(pi || pi_ref) itself.
    """
    ratio_NT = torch.where(batch.get("mask"), batch.get("logp") - batch.get("ref_logp"), 0.0).double()
    return (torch.exp(ratio_NT) * ratio_NT - torch.expm1(ratio_NT)).sum(-1)
