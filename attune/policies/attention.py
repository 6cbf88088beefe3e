"""Shared-prefix attention: a prompt is computed once for all that follows it, without a mask of [tokens, tokens].

Letters: L tokens of a line, H query heads, G key heads, S = H / G, D width of a head.

A line holds trees of segments (a prompt, its responses, turns, branches), each tree depth first. So what a token may see takes one
integer a token: token k is seen by the tokens q with k <= q < sight[k], where sight[k] ends the part of the line that belongs to k's segment and
to all that branches off it. transformers hands this [1,1,2,L] tensor (sights, positions) through to the attention function as it
hands any 4-D mask.

On a CPU the line is cut into plain pieces: a causal one for each chain (a segment, its first child, that one's first child ...), and one for
each place where something branches off: all queries behind the branch against the keys of the chain before it. A token's partial
results are merged by their log-sum-exps; backward, each piece needs the merged output and the merged log-sum-exp alone, so it is exact.
On a GPU the same sights make the block mask of FlexAttention.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

BLOCK_QUERIES, BLOCK_ELEMENTS = 128, 1 << 22
"""Queries, and at most so many scores, that are computed at a time on a CPU: they stay in its cache, and little is computed above the diagonal."""

_UNSEEN = -1e30  # the score of a key out of sight: its weight is 0, and a query that sees none of a piece gives it the share 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Queries start..stop against keys from..to of a line."""

    start: int
    stop: int
    key_start: int
    key_stop: int
    causal: bool
    # each query sees the keys up to itself (the two ranges are the same then); otherwise all of them


def pieces(sight: list[int]) -> list[Piece]:
    """Returns the pieces that make up the attention of a line: first a causal one a chain, which cover each query once, then the others.

    Args:
        sight: for each token of the line the index at which its sight ends.
    """
    starts = [0, *(place for place in range(1, len(sight)) if sight[place] != sight[place - 1])]
    stops = [*starts[1:], len(sight)]
    chains: list[int] = []
    across: list[Piece] = []
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if number == 0 or sight[start - 1] <= start:  # what stands before is no ancestor
            chains.append(start)
        first_child_ends = sight[stop] if stop < sight[start] else sight[start]
        if first_child_ends < sight[start]:
            across.append(Piece(first_child_ends, sight[start], chains[-1], stop, False))
    return [Piece(start, stop, start, stop, True) for start, stop in zip(chains, [*chains[1:], len(sight)], strict=True)] + across


def implement(model: Any) -> bool:
    """Makes a model of transformers take lines with sights; other inputs are computed as before. Returns whether it has such an interface."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = model.config._attn_implementation
    if before.startswith("attune_"):
        return True
    if before not in ("sdpa", "eager"):
        return False
    name = f"attune_{before}"
    if name not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(name, partial(_attend, before=before))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
    try:
        model.set_attn_implementation(name)
    except ValueError:  # the architecture does not go through the interface
        return False
    taken: bool = model.config._attn_implementation == name  # others are left as they are, with a warning
    return taken


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    before: str,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function that transformers calls: [1,H,L,D] queries, [1,G,L,D] keys and values -> [1,L,H,D]."""
    if attention_mask is None or attention_mask.dtype != torch.long:
        extra = kwargs | {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window, "softcap": softcap}
        result: tuple[Tensor, Tensor | None] = _own(module, before)(module, query, key, value, attention_mask, **extra)
        return result
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = sliding_window or getattr(module, "sliding_window", None)  # some architectures leave it to the mask
    if torch.is_autocast_enabled(query.device.type):
        wanted = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(wanted), key.to(wanted), value.to(wanted)
    return shared_attention(query, key, value, attention_mask, scale=scale, dropout=dropout, window=window, softcap=softcap), None


def _own(module: Any, before: str) -> Any:
    """Returns the attention function that the model had."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return sys.modules[type(module).__module__].eager_attention_forward if before == "eager" else ALL_ATTENTION_FUNCTIONS[before]


def shared_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sights: Tensor,
    *,
    scale: float,
    dropout: float = 0.0,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attends along a line of trees.

        s_qk = scale q.k,   s <- c tanh(s / c) with a soft cap c;   out_q = sum_k softmax_k(s_qk) v_k
        over k <= q < sight[k], and position[q] - position[k] < window where there is one

    Args:
        query: [1,H,L,D].
        key, value: [1,G,L,D], G divides H.
        sights: [1,1,2,L] long: where each token's sight ends, and its position.
        scale: of the scores.
        dropout: probability with which a weight is dropped, in 0..1.
        window: tokens that a query looks back on, itself included; None: all.
        softcap: c; None: none.

    Returns:
        [1,L,H,D] in the type of the query.
    """
    if query.is_cuda and not dropout and query.dtype != torch.float64:
        return _flex(query, key, value, sights, scale, window, softcap).transpose(1, 2).contiguous()
    attend: Callable[..., Tensor] = _Pieces.apply
    return attend(query, key, value, sights, scale, dropout, window, softcap)


class _Pieces(torch.autograd.Function):
    """The attention of a line on a CPU, piece by piece and each piece in blocks of queries; nothing but the result and its log-sum-exp is kept."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sights: Tensor, scale: float, dropout: float, window: int | None, softcap: float | None
    ) -> Tensor:
        line = _Line(query, key, value, sights, scale, window, softcap)
        seed = int(torch.randint(2**31, ())) if dropout else 0
        out = torch.empty_like(line.query_GSLD)
        lse = out.new_empty(out.shape[:-1])
        with line.quick_products():
            for number, piece in enumerate(_plan(sights)):
                for block in line.blocks(piece):
                    score = line.scores(block)
                    top = score.amax(-1)
                    weight = torch.softmax(score, -1)
                    block_lse = top - weight.amax(-1).log()
                    block_out = torch.bmm(_dropped(weight, dropout, seed, number, block).flatten(1, 2), line.values(block)).view(*block_lse.shape, -1)
                    rows = slice(block.start, block.stop)
                    if piece.causal:
                        out[:, :, rows], lse[:, :, rows] = block_out, block_lse
                    else:
                        share = torch.sigmoid(block_lse - lse[:, :, rows])
                        out[:, :, rows].lerp_(block_out, share[..., None])
                        lse[:, :, rows] = torch.logaddexp(lse[:, :, rows], block_lse)
        result = out.permute(2, 0, 1, 3).reshape(1, out.shape[2], -1, out.shape[-1]).to(query.dtype)
        ctx.save_for_backward(query, key, value, sights, result, lse)
        ctx.settings = (scale, dropout, window, softcap, seed)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, sights, result, lse = ctx.saved_tensors
        scale, dropout, window, softcap, seed = ctx.settings
        line = _Line(query, key, value, sights, scale, window, softcap)
        shape = line.query_GSLD.shape
        grad_out = grad[0].unflatten(1, shape[:2]).permute(1, 2, 0, 3).to(lse.dtype)
        drift = (grad[0].to(lse.dtype) * result[0].to(lse.dtype)).sum(-1).unflatten(1, shape[:2]).permute(1, 2, 0)
        grad_query, grad_key, grad_value = torch.zeros_like(line.query_GSLD), torch.zeros_like(line.key_GLD), torch.zeros_like(line.value_GLD)
        with line.quick_products():
            for number, piece in enumerate(_plan(sights)):
                for block in line.blocks(piece):
                    rows, keys = slice(block.start, block.stop), slice(block.key_start, block.key_stop)
                    score = line.scores(block)
                    slope = None if softcap is None else 1 - (score / softcap).square()
                    weight = score.sub_(lse[:, :, rows, None]).exp_()
                    upstream = grad_out[:, :, rows].flatten(1, 2)
                    kept = _dropped(weight, dropout, seed, number, block)
                    grad_value[:, keys] += torch.bmm(kept.flatten(1, 2).transpose(1, 2), upstream)
                    back = torch.bmm(upstream, line.value_GLD[:, keys].transpose(1, 2)).view_as(weight)
                    if dropout:
                        back = _dropped(back, dropout, seed, number, block)
                    back = back.sub_(drift[:, :, rows, None]).mul_(weight)
                    if slope is not None:
                        back = torch.where(slope.isfinite(), back * slope, 0.0)
                    back = back.flatten(1, 2)
                    grad_query[:, :, rows] += torch.bmm(back, line.key_GLD[:, keys]).view(shape[0], shape[1], -1, shape[3])
                    grad_key[:, keys] += torch.bmm(back.transpose(1, 2), line.query_GSLD[:, :, rows].flatten(1, 2))
        found = (grad_query.mul_(scale).flatten(0, 1), grad_key, grad_value)
        return *(part[None].to(query.dtype) for part in found), None, None, None, None, None


class _Line:
    """Queries, keys and values of a line in the form that products want, and the blocks that they are computed in."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, sights: Tensor, scale: float, window: int | None, softcap: float | None) -> None:
        self.narrow = query.dtype == torch.bfloat16
        wide = torch.promote_types(query.dtype, torch.float32)
        heads = (key.shape[1], query.shape[1] // key.shape[1])
        self.query_GSLD = (query[0].to(wide) * scale).unflatten(0, heads).contiguous()
        self.key_GLD, self.value_GLD = key[0].to(wide).contiguous(), value[0].to(wide).contiguous()
        self.sights, self.window, self.softcap = sights, window, softcap

    @contextmanager
    def quick_products(self) -> Iterator[None]:
        """Inside the block float32 products of what came as bfloat16 go the quick way: on some machines factors are rounded to bfloat16 again."""
        before = torch.get_float32_matmul_precision()
        if self.narrow:
            torch.set_float32_matmul_precision("medium")
        try:
            with torch.autocast(self.query_GSLD.device.type, enabled=False):  # the forward runs inside the caller's
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def blocks(self, piece: Piece) -> Iterator[Piece]:
        """Yields a piece in blocks of queries, each with the keys that it can see."""
        heads = self.query_GSLD.shape[0] * self.query_GSLD.shape[1]
        size = min(BLOCK_QUERIES, max(16, BLOCK_ELEMENTS // (heads * (piece.key_stop - piece.key_start))))
        for start in range(piece.start, piece.stop, size):
            block = replace(piece, start=start, stop=min(start + size, piece.stop))
            if piece.causal:
                block = replace(block, key_stop=block.stop)
            if self.window is not None:
                position = _positions(self.sights)
                beyond = min(position[block.start : block.stop]) - self.window + 1 - position[block.key_start]
                block = replace(block, key_start=block.key_start + max(0, beyond))
            if block.key_start < block.key_stop:
                yield block

    def scores(self, block: Piece) -> Tensor:
        """Returns [G,S,queries,keys], with those out of sight far below all others."""
        query = self.query_GSLD[:, :, block.start : block.stop]
        key = self.key_GLD[:, block.key_start : block.key_stop]
        score = torch.bmm(query.flatten(1, 2), key.transpose(1, 2)).view(*query.shape[:3], -1)
        if self.softcap is not None:
            score = score.div_(self.softcap).tanh_().mul_(self.softcap)
        if block.causal:
            own = score[..., block.start - block.key_start :]
            own.masked_fill_(torch.ones(own.shape[-2:], dtype=torch.bool, device=own.device).triu(1), _UNSEEN)
        if self.window is not None:
            position = self.sights[0, 0, 1]
            back = position[block.start : block.stop, None] - position[None, block.key_start : block.key_stop]
            score.masked_fill_(back >= self.window, _UNSEEN)
        return score

    def values(self, block: Piece) -> Tensor:
        return self.value_GLD[:, block.key_start : block.key_stop]


def _dropped(weight: Tensor, dropout: float, seed: int, number: int, block: Piece) -> Tensor:
    """Returns the weights with some dropped and the others scaled up; the same ones for the same seed, piece and block."""
    if not dropout:
        return weight
    generator = torch.Generator().manual_seed(seed + 1_000_003 * number + block.start)
    kept = torch.rand(weight.shape, generator=generator).to(weight.device) >= dropout
    return torch.where(kept, weight / (1 - dropout), 0.0)


_plans: Any = WeakTensorKeyDictionary()
_places: Any = WeakTensorKeyDictionary()
_masks: Any = WeakTensorKeyDictionary()


def _plan(sights: Tensor) -> list[Piece]:
    """Returns the pieces of a line, worked out once for all its layers."""
    if sights not in _plans:
        _plans[sights] = pieces(sights[0, 0, 0].tolist())
    found: list[Piece] = _plans[sights]
    return found


def _positions(sights: Tensor) -> list[int]:
    if sights not in _places:
        _places[sights] = sights[0, 0, 1].tolist()
    found: list[int] = _places[sights]
    return found


def _flex(query: Tensor, key: Tensor, value: Tensor, sights: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """The same through FlexAttention: the sights say which blocks of [tokens, tokens] are computed at all."""
    made, length = _masks.setdefault(sights, {}), query.shape[2]
    if window not in made:
        made[window] = _compiled("create_block_mask")(_seen(sights, window), None, None, length, length, device=query.device)

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    result: Tensor = _compiled("flex_attention")(query, key, value, score_mod=capped, block_mask=made[window], scale=scale, enable_gqa=True)
    return result


def _seen(sights: Tensor, window: int | None) -> Callable[..., Tensor]:
    """Returns the rule by which a query sees a key, as FlexAttention takes it."""
    sight, position = sights[0, 0]

    def rule(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen: Tensor = (key <= query) & (query < sight[key])
        return seen if window is None else seen & (position[query] - position[key] < window)

    return rule


@cache
def _compiled(name: str) -> Any:
    """Returns a function of FlexAttention; uncompiled it would make a tensor of tokens times tokens."""
    from torch.nn.attention import flex_attention

    return torch.compile(getattr(flex_attention, name), dynamic=True)
