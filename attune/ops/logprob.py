"""Log-probabilities of given tokens: from hidden states without the logits of a whole batch, or from logits.

Letters: M predicted tokens, H width of the model, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor

from attune.ops.linear_head import LinearHead, Tiling
from attune.ops.vocabulary import logits_rows, vocabulary_rows


def token_logps(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    target_M: Tensor,
    bias_V: Tensor | None = None,
    *,
    softcap: float | None = None,
    scale: float = 1.0,
    tiling: Tiling | None = None,
    grad_into: Tensor | None = None,
) -> Tensor:
    """Scores each target under the distribution that a vocabulary head gives its hidden state.

        z = s (W h + b),   z <- c tanh(z / c) with a softcap c,   logp = z_target - log sum_v exp z_v

    Args:
        hidden_MH: states that predict, one for each target.
        weight_VH: the head's weight.
        target_M: long, token ids in 0..V-1.
        bias_V: the head's bias, if it has one.
        softcap: c, in logits; None: none.
        scale: s.
        tiling, grad_into: see `vocabulary_rows`.

    Returns:
        [M], nats, in float32 or wider.
    """
    head = LinearHead(hidden=hidden_MH, weight=weight_VH, bias=bias_V, softcap=softcap, scale=scale)
    return vocabulary_rows(head, target_M, tiling=tiling, grad_into=grad_into)["logp"]


def target_logps(logits_MV: Tensor, target_M: Tensor) -> Tensor:
    """Scores each target under given logits: logp = z_target - log sum_v exp z_v.

    Args:
        logits_MV: any floating type; the sum runs in float32 or wider.
        target_M: long, token ids in 0..V-1.

    Returns:
        [M], nats.
    """
    return logits_rows(logits_MV, target_M)["logp"]
