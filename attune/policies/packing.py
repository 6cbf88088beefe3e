"""How rows are laid out for a model: plain (each row alone, padded on the right) or grouped (each prompt once, nothing padded).

Letters: N rows, T steps, R rows of a line, L tokens of a line, M supervised tokens.

Both layouts give one log-probability to one token. In the grouped layout whole prompts with their responses stand behind each
other on a line; a response sees its prompt and itself, positions go on from the prompt's end in each response, and the first
token of a response is predicted at the prompt's last position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from attune.policies.templates import Tokens

Layout = Literal["grouped", "plain"]

LINE_TOKENS = 512
"""Tokens on a grouped line, which costs the square of them in its mask; a prompt with more than that has a line of its own."""

_NONE = -1  # the segment of padding, the parent of a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one forward pass reads."""

    layout: Layout
    ids: Tensor
    # [R,L] long
    positions: Tensor
    # [R,L] long
    segment: Tensor
    # [R,L] long; which prompt or response of the line a token belongs to; -1: padding
    parent: Tensor
    # [R,L] long; the segment of the prompt that a response reads; -1: none

    def attention(self, dtype: torch.dtype) -> Tensor:
        """Returns what transformers takes: [R,L] with 1 for a token (plain), or an additive [1,1,L,L] mask (grouped)."""
        if self.layout == "plain":
            return (self.segment != _NONE).long()
        index = torch.arange(self.ids.shape[1], device=self.ids.device)
        segment, parent = self.segment[0], self.parent[0]
        itself = (segment[:, None] == segment[None, :]) & (index[:, None] >= index[None, :])
        sees = itself | (parent[:, None] == segment[None, :])
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)[None, None]

    def to(self, device: torch.device) -> Line:
        """Returns the line on a device."""
        return replace(self, ids=self.ids.to(device), positions=self.positions.to(device), segment=self.segment.to(device), parent=self.parent.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows as a causal policy wants them (core.protocols.Encoded). Flat indices count through the lines, one behind the other."""

    lines: tuple[Line, ...]
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
        return replace(self, lines=tuple(line.to(device) for line in self.lines), **moved)


def pack(rows: Sequence[Tokens], layout: Layout, *, line_tokens: int = LINE_TOKENS) -> Packed:
    """Lays rows out.

    Args:
        rows: N rows with at least one prompt token and one response token each.
        layout: which of the two.
        line_tokens: where a grouped line ends.

    Returns:
        The rows on the CPU.
    """
    assert rows and all(row.prompt_ids and row.response_ids for row in rows), "a row has a prompt and a response"
    lines, prompt_last, response_first = _plain(rows) if layout == "plain" else _grouped(rows, line_tokens)
    mask = torch.zeros(len(rows), max(len(row.response_ids) for row in rows), dtype=torch.bool)
    predicting, targets = [], []
    for n, row in enumerate(rows):
        mask[n, : len(row.supervised)] = torch.tensor(row.supervised)
        for step, (token, wanted) in enumerate(zip(row.response_ids, row.supervised, strict=True)):
            if wanted:
                predicting.append(response_first[n] + step - 1 if step else prompt_last[n])
                targets.append(token)
    return Packed(
        lines=tuple(lines),
        mask=mask,
        keys=tuple(row_key(row) for row in rows),
        num_tokens=sum(line.ids.numel() for line in lines),
        predicting=torch.tensor(predicting, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        last=torch.tensor([first + len(row.response_ids) - 1 for first, row in zip(response_first, rows, strict=True)]),
    )


def row_key(row: Tokens) -> str:
    """Returns a content hash of a row: prompt ids, response ids and mask, whatever else stands in the batch."""
    said = f"{row.prompt_ids}|{row.response_ids}|{row.supervised}"
    return hashlib.sha256(said.encode()).hexdigest()


def _plain(rows: Sequence[Tokens]) -> tuple[list[Line], list[int], list[int]]:
    length = max(len(row.prompt_ids) + len(row.response_ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    segment = torch.full_like(ids, _NONE)
    prompt_last, response_first = [], []
    for n, row in enumerate(rows):
        both = row.prompt_ids + row.response_ids
        ids[n, : len(both)] = torch.tensor(both)
        segment[n, : len(both)] = n
        prompt_last.append(n * length + len(row.prompt_ids) - 1)
        response_first.append(prompt_last[-1] + 1)
    positions = torch.arange(length).expand_as(ids) * (segment != _NONE)
    return [Line(layout="plain", ids=ids, positions=positions, segment=segment, parent=torch.full_like(ids, _NONE))], prompt_last, response_first


def _grouped(rows: Sequence[Tokens], line_tokens: int) -> tuple[list[Line], list[int], list[int]]:
    families: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for row in rows:  # dictionaries as ordered sets: equal prompts, and equal responses to one, are computed once
        families.setdefault(row.prompt_ids, {})[row.response_ids] = None
    lines: list[list[tuple[int, ...]]] = []
    room = 0
    for prompt, responses in families.items():
        size = len(prompt) + sum(map(len, responses))
        if size > room:
            lines.append([])
            room = line_tokens
        lines[-1].append(prompt)
        room -= size
    made, offset = [], 0
    ends: dict[tuple[int, ...], int] = {}
    starts: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for prompts in lines:
        pieces: list[tuple[tuple[int, ...], int, int]] = []  # ids, position of the first, parent
        for prompt in prompts:
            number = len(pieces)
            pieces += [(prompt, 0, _NONE), *((response, len(prompt), number) for response in families[prompt])]
            heads = list(accumulate((len(ids) for ids, _, _ in pieces[number:]), initial=offset))
            ends[prompt] = heads[1] - 1
            starts.update({(prompt, response): head for response, head in zip(families[prompt], heads[1:], strict=False)})
            offset = heads[-1]
        made.append(_line(pieces))
    return made, [ends[row.prompt_ids] for row in rows], [starts[row.prompt_ids, row.response_ids] for row in rows]


def _line(pieces: Sequence[tuple[tuple[int, ...], int, int]]) -> Line:
    lengths = torch.tensor([len(ids) for ids, _, _ in pieces])
    return Line(
        layout="grouped",
        ids=torch.tensor([token for ids, _, _ in pieces for token in ids])[None],
        positions=torch.cat([torch.arange(len(ids)) + first for ids, first, _ in pieces])[None],
        segment=torch.arange(len(pieces)).repeat_interleave(lengths)[None],
        parent=torch.tensor([parent for _, _, parent in pieces]).repeat_interleave(lengths)[None],
    )
