"""A vocabulary head as it is handed to the functions of ops/vocabulary.py, what it is compared with, and how the work is cut.

Letters: M rows (predicting positions), H width, V vocabulary, K entries of a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

TILE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Logits of one block unless told otherwise: on a CPU a block stays in the cache."""

KEEP_ELEMENTS = 1 << 26
"""Logits kept from the forward to the backward pass unless told otherwise: 256 MiB in float32, 128 in bfloat16."""

_MIN_COLUMNS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """Logits z = s (W h + b), capped as c tanh(z / c)."""

    hidden: Tensor
    # [M,H]
    weight: Tensor
    # [V,H]
    bias: Tensor | None = None
    # [V]
    softcap: float | None = None
    # c, in logits; None: none
    scale: float = 1.0
    # s

    def rows(self, rows: slice) -> LinearHead:
        """Returns the head on some of its rows."""
        return replace(self, hidden=self.hidden[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """What a teacher says of its K likeliest tokens."""

    ids: Tensor
    # [M,K] long, distinct within a row; an entry with log-probability -inf says nothing
    logp: Tensor
    # [M,K] nats
    tail: Literal["bucket", "renormalise"] = "bucket"
    # the teacher's mass outside the K: one further bucket, compared with the policy's mass outside them (a lower bound of the whole
    # divergence, exact where K = V); or none: its K probabilities are divided by their sum

    def divergence(self, logp_MK: Tensor, tail_logp_M: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compares the policy with the teacher: KL = sum_S t log(t / p) + T log(T / P).

        Args:
            logp_MK: the policy's log-probability of the same tokens.
            tail_logp_M: log P, of all other tokens; None: there is no other token.

        Returns:
            the divergence [M] (nats), t [M,K] and T [M]; T is 0 where no tail is compared.
        """
        said_MK = self.logp.to(logp_MK.dtype)
        if self.tail == "renormalise":
            said_MK = said_MK - said_MK.logsumexp(-1, keepdim=True)
        t_MK = said_MK.exp()
        tail_M = torch.zeros_like(t_MK[:, 0]) if tail_logp_M is None or self.tail == "renormalise" else (1 - t_MK.sum(-1)).clamp(min=0)
        kl_M = torch.where(t_MK > 0, t_MK * (said_MK - logp_MK), 0.0).sum(-1)
        if tail_logp_M is not None:
            kl_M = kl_M + torch.where(tail_M > 0, tail_M * (tail_M.clamp(min=torch.finfo(t_MK.dtype).tiny).log() - tail_logp_M), 0.0)
        return kl_M, t_MK, tail_M


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How the work is cut. It changes neither values nor gradients but for rounding."""

    rows: int = 8192
    # rows at a time
    columns: int | None = None
    # tokens of the vocabulary at a time; None: as many as make TILE_ELEMENTS logits, at least 1,024
    keep: int = KEEP_ELEMENTS
    # logits that may be kept for the backward pass; the rows and blocks beyond them are computed again

    def width(self, num_rows: int, device: torch.device) -> int:
        """Returns the columns of a block."""
        return self.columns or max(_MIN_COLUMNS, TILE_ELEMENTS.get(device.type, TILE_ELEMENTS["cuda"]) // max(num_rows, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the policy is compared with, without gradient."""

    reference: LinearHead | Tensor | None = None
    # a head on the same vocabulary, or its logits [M,V]
    teacher: TopK | None = None
    values: Tensor | LinearHead | None = None
    # f: [V], or a head that gives each row its own

    def rows(self, rows: slice) -> Beside:
        """Returns what concerns some rows."""
        reference, teacher, values = self.reference, self.teacher, self.values
        return Beside(
            reference=reference.rows(rows) if isinstance(reference, LinearHead) else None if reference is None else reference[rows],
            teacher=replace(teacher, ids=teacher.ids[rows], logp=teacher.logp[rows]) if teacher else None,
            values=values.rows(rows) if isinstance(values, LinearHead) else values,
        )
