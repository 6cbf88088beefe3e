"""How rows are laid out for a model: plain (each row alone, padded on the right) or shared (what rows have in common once, nothing padded).

Letters: N rows, T steps, R rows of a line, L tokens of a line, M supervised tokens.

Both layouts give one log-probability to one token. In the shared layout rows make trees: rows that begin with the same tokens (a prompt's
responses, turns of one conversation, branches of one response, prompts behind one system prompt) share them, whatever they are called, and the trees
stand behind each other on one line, each depth first. A token sees its ancestors and itself, positions count along a row, and the first token
of a branch is predicted at the last position of what it branches off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from attune.policies.templates import Tokens

Layout = Literal["shared", "plain"]

SHARED_TOKENS = 8
"""Tokens that rows must have in common to share them: a branch costs a further piece of attention in each layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one forward pass reads."""

    layout: Layout
    ids: Tensor
    # [R,L] long; R = 1 in the shared layout
    positions: Tensor
    # [R,L] long
    sight: Tensor
    # [R,L] long; shared: the place on the line up to which later tokens see this one; plain: 1 for a token, 0 for padding

    def attention(self) -> Tensor:
        """Returns what transformers takes: [R,L] (plain), or [1,1,2,L] with sights and positions, for policies.attention."""
        return self.sight if self.layout == "plain" else torch.stack([self.sight, self.positions], 1)[None]

    def to(self, device: torch.device) -> Line:
        """Returns the line on a device."""
        return replace(self, ids=self.ids.to(device), positions=self.positions.to(device), sight=self.sight.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows as a causal policy wants them (core.protocols.Encoded). Flat indices count through the line, row by row."""

    line: Line
    mask: Tensor
    # [N,T] bool, supervised steps
    keys: tuple[str, ...]
    # [N], content hash of prompt ids, response ids and mask
    num_tokens: int
    # tokens that a forward pass computes, padding included
    predicting: Tensor
    # [M] long, flat index of the position that predicts a supervised token
    targets: Tensor
    # [M] long, the supervised tokens, in the order of mask.nonzero()
    last: Tensor
    # [N] long, flat index of each row's last token

    def to(self, device: torch.device) -> Packed:
        """Returns the rows on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("mask", "predicting", "targets", "last")}
        return replace(self, line=self.line.to(device), **moved)


def pack(rows: Sequence[Tokens], layout: Layout) -> Packed:
    """Lays rows out.

    Args:
        rows: N rows with at least one prompt token and one response token each.
        layout: which of the two.

    Returns:
        The rows on the CPU.
    """
    assert rows and all(row.prompt_ids and row.response_ids for row in rows), "a row has a prompt and a response"
    texts = [row.prompt_ids + row.response_ids for row in rows]
    line, places = _plain(texts) if layout == "plain" else _shared(texts)
    mask = torch.zeros(len(rows), max(len(row.response_ids) for row in rows), dtype=torch.bool)
    predicting, targets = [], []
    for n, (row, place) in enumerate(zip(rows, places, strict=True)):
        supervised = torch.tensor(row.supervised)
        mask[n, : len(supervised)] = supervised
        first = len(row.prompt_ids)
        predicting.append(place[first - 1 : -1][supervised])
        targets.append(torch.tensor(row.response_ids)[supervised])
    return Packed(
        line=line,
        mask=mask,
        keys=tuple(row_key(row) for row in rows),
        num_tokens=line.ids.numel(),
        predicting=torch.cat(predicting),
        targets=torch.cat(targets),
        last=torch.stack([place[-1] for place in places]),
    )


def segments(rows: Sequence[Tokens]) -> list[tuple[int, int]]:
    """Returns what the shared layout of these rows computes: for each segment the position of its first token, and the one behind its last."""
    return [(start, stop) for _, start, stop, _ in _segments([row.prompt_ids + row.response_ids for row in rows])]


def row_key(row: Tokens) -> str:
    """Returns a content hash of a row: prompt ids, response ids and mask, whatever else stands in the batch."""
    said = f"{row.prompt_ids}|{row.response_ids}|{row.supervised}"
    return hashlib.sha256(said.encode()).hexdigest()


def _plain(texts: Sequence[tuple[int, ...]]) -> tuple[Line, list[Tensor]]:
    """Returns the line, and for each row the flat indices of its tokens."""
    length = max(map(len, texts))
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    sight = torch.zeros_like(ids)
    for n, text in enumerate(texts):
        ids[n, : len(text)] = torch.tensor(text)
        sight[n, : len(text)] = 1
    places = [torch.arange(n * length, n * length + len(text)) for n, text in enumerate(texts)]
    return Line(layout="plain", ids=ids, positions=torch.arange(length).expand_as(ids) * sight, sight=sight), places


def _shared(texts: Sequence[tuple[int, ...]]) -> tuple[Line, list[Tensor]]:
    """Returns the line, and for each row the flat indices of its tokens."""
    ids, positions, sight, length = [], [], [], 0
    places: dict[tuple[int, ...], list[Tensor]] = {text: [] for text in texts}
    ends: list[tuple[int, int]] = []  # of the segments whose sight is still open: where they begin, and their size
    for under, start, stop, closing in _segments(texts):
        ids.append(torch.tensor(under[0][start:stop]))
        positions.append(torch.arange(start, stop))
        for text in under:
            places[text].append(torch.arange(length, length + stop - start))
        ends.append((length, stop - start))
        length += stop - start
        for _ in range(closing):
            begin, size = ends.pop()
            sight.append((begin, torch.full((size,), length)))
    line_sight = torch.cat([part for _, part in sorted(sight, key=lambda one: one[0])])
    line = Line(layout="shared", ids=torch.cat(ids)[None], positions=torch.cat(positions)[None], sight=line_sight[None])
    whole = {text: torch.cat(place) for text, place in places.items()}
    return line, [whole[text] for text in texts]


def _segments(texts: Sequence[tuple[int, ...]]) -> Iterator[tuple[Sequence[tuple[int, ...]], int, int, int]]:
    """Yields the segments of the trees that rows make, depth first: rows under it, first position, end, and how many segments end with it.

    Among rows in the order of their tokens, those that begin alike are neighbours.
    """
    order = sorted(set(texts))
    common = [0, *(_common(one, other) for one, other in pairwise(order))]
    yield from _branches(order, common, 0, len(order), 0, 0)


def _branches(
    order: Sequence[tuple[int, ...]], common: Sequence[int], first: int, end: int, depth: int, closing: int
) -> Iterator[tuple[Sequence[tuple[int, ...]], int, int, int]]:
    """Yields the segments of order[first:end] from position `depth` on; the last one ends `closing` further ones.

    Args:
        common: tokens that a row of the order shares with the one before it.
    """
    shared = min(common[first + 1 : end], default=len(order[first]))
    if shared - depth >= SHARED_TOKENS or end - first == 1:
        rest = first + (len(order[first]) == shared)  # a row that ends here comes first
        yield order[first:end], depth, shared, (closing + 1 if rest == end else 0)
        depth, closing, first = shared, closing + 1, rest
    cuts = [place for place in range(first + 1, end) if common[place] <= shared]
    for start, stop in zip([first, *cuts], [*cuts, end], strict=True):
        if start < stop:
            yield from _branches(order, common, start, stop, depth, closing if stop == end else 0)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Returns how many tokens two rows begin with alike."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    low, high = 0, size  # alike up to `low`, not up to `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low
