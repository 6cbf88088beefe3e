"""Before a run trains: two of its own groups are computed in both layouts, and the shared one is used only if they agree."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from attune.policies.causal import CausalPolicy, evaluating
from attune.policies.layouts import Choice
from attune.training.layout import lay_out
from attune.training.source import Item

EXACT_LIMIT, ROUNDED_LIMIT = 1e-3, 0.25
"""Nats a token (or units of reward) that the layouts may differ by: with exact products, and where products are rounded to 16 bits."""


def self_check(policy: CausalPolicy, items: Sequence[Item]) -> str:
    """Computes items in both layouts; where they differ the policy goes on in the plain one.

    Args:
        policy: whose layout is checked, and changed if need be.
        items: the first two of a run.

    Returns:
        A sentence that says what was found.
    """
    if policy.layout_used == "plain" or not items:
        return f"layout plain: {policy.layout_reason}"
    groups = [item.group for item in items]
    rows = lay_out(items, range(len(items)), roles=("main",), annotators={}).rows
    plain = copy.copy(policy)
    plain.layout = Choice("plain", "the other way of a self-check")
    name = "logp" if policy.kind == "lm" else "reward"
    with torch.no_grad(), evaluating(policy.module):
        shared, alone = (one.outputs(one.collate(groups, rows), (name,))[name] for one in (policy, plain))
    difference = float((shared - alone).abs().max())
    rounded = policy.compute != "same" or policy.model.dtype not in (torch.float32, torch.float64) or torch.get_float32_matmul_precision() == "medium"
    if difference <= (ROUNDED_LIMIT if rounded else EXACT_LIMIT):
        return f"layout shared: {policy.layout_reason}; self-check: {len(rows)} rows of {len(items)} groups agree to {difference:.0e}"
    policy.layout = Choice("plain", f"the self-check found that the shared layout changes {name} by {difference:.1e}")
    return f"layout plain: {policy.layout_reason}"
