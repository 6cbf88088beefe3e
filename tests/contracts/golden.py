"""Values worked by hand. Each method's own test holds a tuple GOLDEN of them; the contract suite and the mutation test read it by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from attune.core.batch import Batch
from attune.core.spec import Method


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A batch, parameters, and the loss that follows from them on paper."""

    says: str
    batch: Batch
    value: float
    params: Mapping[str, Any] = field(default_factory=dict)
    grad: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    # output column -> gradient of the loss at every row, summed over steps


def golden_of(method: Method) -> Sequence[Golden]:
    """Returns the hand-worked values of a method, found by its name."""
    found: Sequence[Golden] = importlib.import_module(f"tests.objectives.test_{method.name}").GOLDEN
    return found


def by_hand(
    *,
    logp: Sequence[Sequence[float]] | None = None,
    ref: Sequence[Sequence[float]] | None = None,
    reward: Sequence[float] | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    target: Sequence[float] | None = None,
    tie: Sequence[bool] | None = None,
    strength: Sequence[float | None] | None = None,
    labels: Sequence[bool | None] | None = None,
    demos: Sequence[bool] | None = None,
    mismatched: int = 0,
) -> Batch:
    """Returns a float64 batch of one group from plain lists; None is what nobody said.

    Args:
        logp: a list of token log-probabilities a row; rows may differ in length.
        ref: the reference's, of the same lengths.
        reward: a score a row.
        pairs: (first, second) by row.
        target: of each pair; left out: 1, or 1/2 for ties.
        tie: of each pair.
        strength: of each pair.
        labels: of each row.
        demos: of each row.
        mismatched: how many of the last rows have that role.
    """
    rows = logp if logp is not None else [[0.0]] * len(reward or ())
    steps = max(map(len, rows))
    columns: dict[str, Any] = {
        "mask": [[t < len(row) for t in range(steps)] for row in rows],
        "group": [0] * len(rows),
        "response": list(range(len(rows))),
        "role": [int(n >= len(rows) - mismatched) for n in range(len(rows))],
    }
    for name, tokens in {"logp": logp, "ref_logp": ref}.items():
        if tokens is not None:
            columns[name] = [list(row) + [torch.nan] * (steps - len(row)) for row in tokens]
    if reward is not None:
        columns["reward"] = reward
    if pairs is not None:
        ties = tie or [False] * len(pairs)
        strengths = strength or [None] * len(pairs)
        columns |= {"pairs": pairs, "tie": ties, "target": target or [0.5 if tied else 1.0 for tied in ties]}
        columns |= {"strength": [torch.nan if value is None else value for value in strengths], "graded": [value is not None for value in strengths]}
    if labels is not None:
        columns |= {"label": [bool(label) for label in labels], "labelled": [label is not None for label in labels]}
    if demos is not None:
        columns["demo"] = demos
    as_float = {"logp", "ref_logp", "reward", "target", "strength"}
    tensors = {name: torch.tensor(column, dtype=torch.float64 if name in as_float else None) for name, column in columns.items()}
    return Batch(columns=tensors, num_groups=1, roles=("main", "mismatched") if mismatched else ("main",))
