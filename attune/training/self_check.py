"""Before a run trains: rows of two of its own groups are computed together and alone, and the shared layout is used only if they agree."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from attune.policies.causal import CausalPolicy, evaluating
from attune.policies.layouts import Choice
from attune.training.layout import lay_out
from attune.training.room import out_of_memory
from attune.training.source import Item

EXACT_LIMIT, ROUNDED_LIMIT = 1e-3, 0.25
"""Nats a token (or units of reward) that the layouts may differ by: with exact products, and where products are rounded to 16 bits."""


def self_check(policy: CausalPolicy, items: Sequence[Item]) -> str:
    """Computes two rows of each item in the shared layout, and each alone in the plain one; where they differ the policy goes on in the latter.

    Args:
        policy: whose layout is checked, and changed if need be.
        items: the first two of a run.

    Returns:
        A sentence that says what was found.
    """
    if policy.layout_used == "plain" or not items:
        return f"layout plain: {policy.layout_reason}"
    groups = [item.group for item in items]
    all_rows = lay_out(items, range(len(items)), roles=("main",), annotators={}).rows
    rows = [row for index in range(len(items)) for row in [one for one in all_rows if one.group == index][:2]]
    plain = copy.copy(policy)
    plain.layout = Choice("plain", "the other way of a self-check")
    name = "logp" if policy.kind == "lm" else "reward"
    try:
        with torch.no_grad(), evaluating(policy.module):
            together = policy.collate(groups, rows)
            shared_N = policy.outputs(together, (name,))[name]
            alone = [plain.outputs(plain.collate(groups, [row]), (name,))[name][0] for row in rows]
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return f"layout shared: {policy.layout_reason}; self-check: left out, two groups do not fit into memory at once"
    differences = [(shared.reshape(-1)[: one.numel()] - one.reshape(-1)).abs().max() for shared, one in zip(shared_N, alone, strict=True)]
    difference = float(torch.stack(differences).max())
    rounded = policy.compute != "same" or policy.model.dtype not in (torch.float32, torch.float64) or torch.get_float32_matmul_precision() == "medium"
    if difference <= (ROUNDED_LIMIT if rounded else EXACT_LIMIT):
        return f"layout shared: {policy.layout_reason}; self-check: {len(rows)} rows of {len(items)} groups agree to {difference:.0e}"
    policy.layout = Choice("plain", f"the self-check found that the shared layout changes {name} by {difference:.1e}")
    return f"layout plain: {policy.layout_reason}"
