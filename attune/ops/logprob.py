"""Log-probabilities of given tokens from hidden states, without keeping the logits of a whole batch.

Letters: M predicted tokens, H width of the model, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TILE_ELEMENTS = 1 << 24
"""Logits that are kept at a time unless told otherwise: 64 MiB in float32."""


def token_logps(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    target_M: Tensor,
    bias_V: Tensor | None = None,
    *,
    softcap: float | None = None,
    scale: float = 1.0,
    tile: int | None = None,
) -> Tensor:
    """Scores each target under the distribution that a vocabulary head gives its hidden state.

        z = s (W h + b),   z <- c tanh(z / c) with a softcap c,   logp = z_target - log sum_v exp z_v

    All of it is computed in float32, or in float64 where the inputs are. More than `tile` tokens are taken in tiles whose
    logits are computed again in the backward pass, so memory does not grow with M times V.

    Args:
        hidden_MH: states that predict, one for each target.
        weight_VH: the head's weight.
        target_M: long, token ids in 0..V-1.
        bias_V: the head's bias, if it has one.
        softcap: c, in logits; None: none.
        scale: s.
        tile: tokens per tile; None: as many as make TILE_ELEMENTS logits.

    Returns:
        [M], nats.
    """
    if not len(target_M):
        return hidden_MH.sum(-1, dtype=_wide(hidden_MH.dtype))  # [0], still tied to the graph
    wide = _wide(torch.promote_types(hidden_MH.dtype, weight_VH.dtype))
    weight_VH = weight_VH.to(wide)
    bias_V = None if bias_V is None else bias_V.to(wide)
    tile = tile or max(1, TILE_ELEMENTS // weight_VH.shape[0])
    if len(target_M) <= tile:
        return _tile_logps(hidden_MH, weight_VH, target_M, bias_V, softcap, scale)
    parts = [
        checkpoint(_tile_logps, hidden, weight_VH, target, bias_V, softcap, scale, use_reentrant=False, preserve_rng_state=False)
        for hidden, target in zip(hidden_MH.split(tile), target_M.split(tile), strict=True)
    ]
    return torch.cat(parts)


def target_logps(logits_MV: Tensor, target_M: Tensor) -> Tensor:
    """Scores each target under given logits: logp = z_target - log sum_v exp z_v.

    Args:
        logits_MV: any floating type; the sum runs in float32 or wider.
        target_M: long, token ids in 0..V-1.

    Returns:
        [M], nats.
    """
    logits_MV = logits_MV.to(_wide(logits_MV.dtype))
    return logits_MV.gather(-1, target_M[:, None]).squeeze(-1) - logits_MV.logsumexp(-1)


def _tile_logps(hidden_MH: Tensor, weight_VH: Tensor, target_M: Tensor, bias_V: Tensor | None, softcap: float | None, scale: float) -> Tensor:
    logits_MV = torch.nn.functional.linear(hidden_MH.to(weight_VH.dtype), weight_VH, bias_V)
    if scale != 1.0:
        logits_MV = logits_MV * scale
    if softcap is not None:
        logits_MV = softcap * torch.tanh(logits_MV / softcap)
    return target_logps(logits_MV, target_M)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
