"""Which layout a model can take: what it declares is read, and the rest is measured on a few tokens."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attune.core.errors import ConfigError
from attune.policies.heads import Head
from attune.policies.packing import Layout, Packed, pack
from attune.policies.templates import Tokens

_MASKS_BY_INDEX = ("gpt_neo", "gptj", "codegen")
# these cut attention by the place on the line, not by the mask they are given


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout rows get, and why."""

    layout: Layout
    reason: str
    window: int | None = None
    # tokens that attention reaches back; a longer row takes the plain layout; None: all

    def of(self, rows: list[Tokens]) -> Layout:
        """Returns the layout for these rows."""
        longest = max(len(row.prompt_ids) + len(row.response_ids) for row in rows)
        return "plain" if self.window is not None and longest > self.window else self.layout


def states(model: Any, head: Head, packed: Packed) -> Tensor:
    """Returns [sum R*L, H or V], the head's states of every token of every line, in the order of flat indices."""
    parts = [head.states(model, line).flatten(0, 1) for line in packed.lines]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def choose(model: Any, head: Head, wanted: str) -> Choice:
    """Returns the layout to use.

    Args:
        model: the model itself, without adapters around it.
        head: how its states are read.
        wanted: "grouped", or "plain" for the plain layout without further ado.

    Raises:
        ConfigError: `wanted` is neither.
    """
    if wanted not in ("grouped", "plain"):
        raise ConfigError("no such layout", field="layout", value=wanted, allowed="'grouped', 'plain'")
    if wanted == "plain":
        return Choice("plain", "asked for")
    config = model.config.get_text_config()
    attention = getattr(model.config, "_attn_implementation", None)
    if getattr(model, "_is_stateful", False):
        return Choice("plain", "the model carries a running state from token to token")
    if attention not in ("sdpa", "eager"):
        return Choice("plain", f"attention {attention!r} takes no mask of its own; 'sdpa' and 'eager' do")
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return Choice("plain", "the model takes no positions")
    if config.model_type in _MASKS_BY_INDEX:
        return Choice("plain", f"{config.model_type} masks attention by place, not by the mask it is given")
    difference = _difference(model, head, config.vocab_size)
    if isinstance(difference, str):
        return Choice("plain", f"the model refuses the grouped layout: {difference}")
    limit = 1e-4 if model.dtype in (torch.float32, torch.float64) else 3e-2
    if not difference <= limit:
        return Choice("plain", f"the grouped layout changes the model's states by {difference:.1e} of their size")
    window = _window(config)
    reason = f"each prompt is computed once; measured against plain rows: {difference:.0e} of the states' size"
    return Choice("grouped", reason if window is None else f"{reason}; rows above the attention window of {window} tokens are laid out plain", window)


def _difference(model: Any, head: Head, vocab_size: int) -> float | str:
    """Returns the largest difference between the layouts relative to the largest state, or what the model said against it."""
    ids = [(7 * place + 3) % vocab_size for place in range(20)]
    first, second = tuple(ids[:5]), tuple(ids[5:8])
    rows = [Tokens(*both, (True,) * len(both[1]), 0, 0) for both in ((first, tuple(ids[8:11])), (second, tuple(ids[11:15])), (first, tuple(ids[15:20])))]
    seen = []
    with torch.no_grad():
        for layout in ("plain", "grouped"):
            packed = pack(rows, layout).to(model.device)
            try:
                found = states(model, head, packed)
            except (ValueError, RuntimeError, IndexError, TypeError) as error:  # code of an architecture we have not met
                return str(error).partition("\n")[0]
            seen.append(found[torch.cat([packed.predicting, packed.last])].double())
    return float((seen[0] - seen[1]).abs().max() / seen[0].abs().max())


def _window(config: Any) -> int | None:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and all(kind == "full_attention" for kind in kinds):
        return None
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((size for size in sizes if size), default=None)
