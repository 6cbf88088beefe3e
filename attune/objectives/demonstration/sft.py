"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

import torch

from attune.core.batch import Batch, Loss, Term
from attune.core.spec import Conventions, Paper, Preset, Spec


def sft(batch: Batch, *, per: Literal["token", "row"] = "token") -> Loss:
    """Imitates demonstrations: maximum likelihood of their tokens given the prompt.

        L = - (1 / sum_n |y_n|) sum_n log pi(y_n|x_n)        per token
        L = - (1 / N) sum_n log pi(y_n|x_n) / |y_n|          per row

    Args:
        batch: needs logp (nats, [N,T]) and demo [N], which rows are demonstrations.
        per: "token" gives every token of the update the same weight, "row" every demonstration.

    Returns:
        One term: [N,T] counted by demo_tokens, or [N] counted by demo_rows; 0 outside demonstrations.

    Source: Ouyang et al. 2022, Section 3.5; the negative log-likelihood itself is older than any name for it.
    """
    demo_N = batch.get("demo")
    if per == "token":
        return Loss((Term(torch.where(batch.get("mask") & demo_N[:, None], -batch.get("logp"), 0.0), "demo_tokens"),))
    return Loss((Term(torch.where(demo_N, -batch.mean("logp"), 0.0), "demo_rows"),))


SPEC = Spec(
    fn=sft,
    paper=Paper("Training language models to follow instructions with human feedback", 2022, "2203.02155", "Section 3.5"),
    needs=("logp", "demo"),
    conventions=Conventions(logp="sum", reference="none", count="tokens of the demonstrations"),
    use_when="You have responses worth imitating: the first stage before preferences, or the whole recipe when demonstrations abound.",
    avoid_when="Feedback compares responses: imitating the preferred one forgets what was wrong with the other.",
    presets={
        "sft_per_row": Preset({"per": "row"}, "the imitation part of ORPO (Hong et al. 2024, Eq. 6) alone: long demonstrations do not outvote short ones")
    },
)
