"""Reading a flat configuration of another trainer: each key is used, known not to matter, or named in a note."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attune.core.errors import ConfigError, shorten


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a configuration."""

    recipe: dict[str, Any]
    # one stage, as a recipe file holds it
    notes: tuple[str, ...]
    # what could not be carried over or means something else here; what changes the loss comes first


# Keys that change what is printed, where it goes or how fast it is, but no number of the result.
_SILENT = re.compile(
    "^(logging_|log_|dataloader_|dataset_num_proc|preprocessing_|push_to_hub|hub_|overwrite_|ddp_|include_|report_to|run_name|output_dir|do_|env$|plot_loss"
    "|save_only_model|save_safetensors|save_strategy|remove_unused_columns|per_device_eval_batch_size|eval_accumulation_steps|disable_tqdm|attn_implementation"
    "|use_flash_attention_2|flash_attn|precompute_ref|padding_|pad_|label_pad_token_id|padding_free|torch_compile|tf32|resume_from_checkpoint"
    "|gradient_checkpointing_kwargs|use_liger_kernel|enable_liger_kernel|optim_target|seed$|is_encoder_decoder|dataset_test_split|test_split|cache_dir|eval_on_start)"
)

_REASONS = {
    "sync_ref_model": "the reference moves only under dpo and kto there",
    "reference_free": "the reference is used here; simpo and orpo are the objectives without one",
    "ref_model_adapters": "the reference is the model at the start of this stage",
    "packing": "no padding is computed here, and a response never sees another one's text",
    "neat_packing": "no padding is computed here, and a response never sees another one's text",
    "ld_alpha": "no weighting of the longer response's tail; beta acts on all tokens",
    "use_weighting": "pairs are not weighted by the policy",
    "model_revision": "model.path names no revision; download that revision and give its folder",
    "template": "the tokenizer's own chat template is used; set model.chat to a Jinja file if it is another one",
    "chat_template_path": "the tokenizer's own chat template is used; set model.chat to a Jinja file",
    "lora_modules_to_save": "only the adapter is trained",
    "additional_target": "only the adapter is trained",
    "use_rslora": "the adapter is scaled by alpha / rank, not by alpha / sqrt(rank)",
    "train_on_prompt": "prompt tokens are never trained on",
    "group_by_length": "the order does not depend on lengths",
}
"""Why a key has no counterpart, or what happens in its place."""

_OF_THE_LOSS = frozenset({"sync_ref_model", "reference_free", "ref_model_adapters", "ld_alpha", "use_weighting", "pref_bco_weight", "train_on_prompt"})
"""Keys that change what is minimised: their notes come first."""

_WORDS = {"yes": True, "on": True, "no": False, "off": False}
"""What these words mean in the YAML of the other trainers, which is older than ours."""


class Fields:
    """A configuration that remembers which of its keys were used.

    Args:
        raw: the mapping.
        file: where it was read, for messages.
        peer: whose it is, for messages.
    """

    def __init__(self, raw: Mapping[str, Any], *, file: Path, peer: str) -> None:
        self.raw, self.file, self.peer = raw, file, peer
        self.notes: list[str] = []
        self.assumed: dict[str, Any] = {}
        # key that the file leaves out -> the peer's default that was written down
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def take(self, *names: str) -> Any:
        """Returns the value of the first of these keys that is set, or None; all of them then count as used."""
        self._used |= set(names)
        return next((self.raw[name] for name in names if name in self), None)

    def number(self, *names: str, default: float | None = None) -> float | None:
        """Returns a number (texts such as "5e-6" are read as numbers), or the peer's default, which is remembered as assumed."""
        value = self.take(*names)
        if value is None:
            if default is not None:
                self.assumed[names[0]] = default
            return default
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError):
            raise self.wrong(names[0], value, "a number") from None

    def whole(self, *names: str, default: int | None = None) -> int | None:
        """Returns a whole number, or the peer's default."""
        value = self.number(*names, default=default)
        if value is not None and value != int(value):
            raise self.wrong(names[0], value, "a whole number")
        return None if value is None else int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Returns whether something is switched on."""
        value = plain(self.take(name))
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return default if value is None else value

    def text(self, *names: str) -> str | None:
        """Returns a text."""
        value = self.take(*names)
        if value is not None and not isinstance(value, str):
            raise self.wrong(names[0], value, "text")
        return value

    def names(self, *names: str) -> list[str]:
        """Returns a list of texts, which may be written as one text with commas; empty where the key is not set."""
        value = self.take(*names)
        items = value.split(",") if isinstance(value, str) else [] if value is None else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.wrong(names[0], value, "a name or a list of names")
        return [item.strip() for item in items if item.strip()]

    def wrong(self, name: str, value: Any, allowed: str) -> ConfigError:
        """Returns the error for a value that cannot be what the key means."""
        return ConfigError(f"cannot be carried over from {self.peer}", file=str(self.file), field=name, value=value, allowed=allowed)

    def finish(self, recipe: dict[str, Any]) -> Imported:
        """Returns the recipe with all notes: every key that was not used, what was said on the way, and what was assumed; of the loss first."""
        unused = {name: value for name, value in self.raw.items() if name not in self._used and plain(value) and not _SILENT.match(name)}
        told = {name: f"not carried over: {name} = {shorten(value)}: {_REASONS.get(name, 'there is no such setting here')}" for name, value in unused.items()}
        first = [note for name, note in told.items() if name in _OF_THE_LOSS]
        notes = [*first, *self.notes, *(note for name, note in told.items() if name not in _OF_THE_LOSS)]
        if self.assumed:
            said = ", ".join(f"{name} = {value:g}" for name, value in self.assumed.items())
            notes.append(f"not in the file, so {self.peer}'s own defaults were written down: {said}")
        return Imported(recipe, tuple(notes))


def plain(value: Any) -> Any:
    """Returns a switch that is written as a word as what it means, anything else as it is."""
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value
