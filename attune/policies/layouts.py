"""Which layout a model can take: what is known of its architecture, what it declares, and what is measured on a few tokens."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attune.core.errors import ConfigError
from attune.policies.attention import implement
from attune.policies.heads import Head
from attune.policies.packing import Layout, Packed, pack
from attune.policies.templates import Tokens

ARCHITECTURES: dict[str, Layout] = {
    "cohere2": "shared",
    "gemma": "shared",
    "gemma2": "shared",
    "gemma3": "shared",
    "gemma3_text": "shared",
    "gpt2": "shared",
    "gpt_neox": "shared",
    "llama": "shared",
    "mistral": "shared",
    "mixtral": "shared",
    "olmo": "shared",
    "olmo2": "shared",
    "phi": "shared",
    "phi3": "shared",
    "qwen2": "shared",
    "qwen2_moe": "shared",
    "qwen3": "shared",
    "qwen3_moe": "shared",
    "gpt_neo": "plain",
    "bloom": "plain",
    "mamba": "plain",
}
"""Model types whose layout a test holds, sliding windows and soft caps included. Any other is measured, and plain beyond its window."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout rows get, and why."""

    layout: Layout
    reason: str
    window: int | None = None
    # tokens that attention reaches back; a longer row takes the plain layout; None: all, or the shared layout knows the window

    def of(self, rows: list[Tokens]) -> Layout:
        """Returns the layout for these rows."""
        longest = max(len(row.prompt_ids) + len(row.response_ids) for row in rows)
        return "plain" if self.window is not None and longest > self.window else self.layout


def states(model: Any, head: Head, packed: Packed) -> Tensor:
    """Returns [R*L, H or V], the head's states of every token of the line, in the order of flat indices."""
    return head.states(model, packed.line).flatten(0, 1)


def choose(model: Any, head: Head, wanted: str) -> Choice:
    """Returns the layout to use; a model that takes the shared one computes attention through policies.attention from then on.

    Args:
        model: the model itself, without adapters around it.
        head: how its states are read.
        wanted: "shared", or "plain" for the plain layout without further ado.

    Raises:
        ConfigError: `wanted` is neither.
    """
    if wanted not in ("shared", "plain"):
        raise ConfigError("no such layout", field="layout", value=wanted, allowed="'shared', 'plain'")
    if wanted == "plain":
        return Choice("plain", "asked for")
    config = model.config.get_text_config()
    if ARCHITECTURES.get(config.model_type) == "plain":
        return Choice("plain", f"{config.model_type} computes attention in a way of its own")
    if getattr(model, "_is_stateful", False):
        return Choice("plain", "the model carries a running state from token to token")
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return Choice("plain", "the model takes no positions")
    attention = model.config._attn_implementation
    if not implement(model):
        return Choice("plain", f"attention {attention!r} of {config.model_type} cannot be exchanged; 'sdpa' and 'eager' can where a model has the interface")
    difference = _difference(model, head, config.vocab_size)
    limit = 1e-4 if model.dtype in (torch.float32, torch.float64) else 3e-2
    if isinstance(difference, str) or not difference <= limit:
        model.set_attn_implementation(attention)
        said = f"the model refuses it: {difference}" if isinstance(difference, str) else f"it changes the model's states by {difference:.1e} of their size"
        return Choice("plain", f"the shared layout does not fit: {said}")
    window = None if config.model_type in ARCHITECTURES else _window(config)
    reason = f"each prompt is computed once; measured against plain rows: {difference:.0e} of the states' size"
    return Choice("shared", reason if window is None else f"{reason}; rows above the attention window of {window} tokens are laid out plain", window)


def _difference(model: Any, head: Head, vocab_size: int) -> float | str:
    """Returns the largest difference between the layouts relative to the largest state, or what the model said against it."""
    ids = [(7 * place + 3) % vocab_size for place in range(20)]
    first, second = tuple(ids[:5]), tuple(ids[5:8])
    rows = [Tokens(*both, (True,) * len(both[1]), 0, 0) for both in ((first, tuple(ids[8:11])), (second, tuple(ids[11:15])), (first, tuple(ids[15:20])))]
    seen = []
    with torch.no_grad():
        for layout in ("plain", "shared"):
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
