"""How a peer holds weights, moments and activations, and shares them between processes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from attune.config.importers._fields import Fields, plain
from attune.core.errors import ConfigError, shorten

_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw", "paged_adamw_32bit")
_ADAMW_8BIT = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
_STAGE = re.compile(r"(?:z|zero|stage)[-_]?([0-3])(?!\d)", re.IGNORECASE)
"""A stage in a file's name, as in zero3.json and ds_z2_config.json."""


def precision(fields: Fields, *, half: bool, default: bool = False) -> dict[str, str]:
    """Returns `model.dtype`, and `model.compute` where products of float32 weights are taken in 16 bits.

    Args:
        fields: the configuration.
        half: whether the peer holds weights in the type that its bf16 or fp16 flag names; otherwise it computes in it from float32 weights.
        default: whether bf16 is on in the peer where the file says neither.
    """
    said, fp16 = fields.text("dtype", "torch_dtype"), fields.flag("fp16")
    assumed = default and not fp16 and "bf16" not in fields
    bf16 = fields.flag("bf16", default=assumed)
    if said == "float16" or (fp16 and half):
        fields.notes.append("float16 does not exist here; the weights are bfloat16, which needs no loss scaling")
    elif said == "auto":
        fields.notes.append("dtype = 'auto' means the checkpoint's own type there; here the weights are bfloat16, set model.dtype if that is not it")
    if said in ("float16", "bfloat16", "auto") or (half and (bf16 or fp16)):
        return {"dtype": "bfloat16"}
    if fp16:
        fields.notes.append("float16 does not exist here; products of float32 weights are in bfloat16 (model.compute), which needs no loss scaling")
    elif assumed:
        fields.notes.append(
            f"bf16 is not in the file and on by default in {fields.peer}: model.compute is bfloat16 over float32 weights; `same` is bf16: false"
        )
    return {"dtype": "float32", "compute": "bfloat16"} if bf16 or fp16 else {"dtype": "float32"}


def quantize(fields: Fields, *, adapted: bool) -> dict[str, str]:
    """Returns `model.quantize` where weights are held in few bits there and can be here.

    Args:
        fields: the configuration.
        adapted: whether an adapter is trained; without one quantised weights do not learn.
    """
    asked = {key: bits for key, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)) if fields.flag(key)}
    if (number := fields.whole("quantization_bit")) is not None:
        asked["quantization_bit"] = number
    kind, way = fields.text("bnb_4bit_quant_type", "quantization_type") or "nf4", fields.text("quantization_method") or "bnb"
    nested, double = fields.flag("use_bnb_nested_quant"), fields.flag("double_quantization", default=True)
    fields.take("bnb_4bit_quant_storage")
    if not asked:
        return {}
    key, bits = next(iter(asked.items()))
    whole = "weights are loaded whole in model.dtype, so memory is larger"
    if not adapted:
        fields.notes.append(f"not carried over: {key}: quantised weights do not learn, and the file trains no adapter; {whole}")
        return {}
    if bits not in (4, 8) or way not in ("bnb", "bitsandbytes"):
        fields.notes.append(f"not carried over: {key}: {bits} bits by {way}; here there are 4 and 8 bits by bitsandbytes; {whole}")
        return {}
    if bits == 8:
        return {"quantize": "int8"}
    if kind != "nf4":
        fields.notes.append(f"4 bits are {kind} there, and nf4 here")
    if not (double if key == "quantization_bit" else nested):
        fields.notes.append("the scales of 4-bit blocks are in 8 bits here (double quantisation), and in float32 there")
    return {"quantize": "nf4"}


def activations(fields: Fields) -> Literal["keep", "recompute", "offload"]:
    """Returns `train.activations`; no number changes with it."""
    off = fields.flag("disable_gradient_checkpointing")
    again = [fields.flag(key) for key in ("gradient_checkpointing", "activation_checkpointing")]
    moved = [fields.flag(key) for key in ("activation_offloading", "use_unsloth_gc")]
    if any(moved):
        return "offload"
    return "recompute" if any(again) and not off else "keep"


def optimiser(fields: Fields, *, sharded: bool) -> Literal["adamw", "adamw8bit"]:
    """Returns `optim.name`.

    Args:
        fields: the configuration.
        sharded: whether weights are sharded over processes here; moments in 8 bits are not.
    """
    said = fields.text("optim") or "adamw_torch"
    if said in _ADAMW_8BIT and not sharded:
        if said.startswith("paged"):
            fields.notes.append(f"optim = {said!r} moves moments to the CPU's memory when the GPU's runs out; here optim.offload=true keeps them there")
        return "adamw8bit"
    if said in _ADAMW_8BIT:
        fields.notes.append(f"optim = {said!r} is AdamW with float32 moments here, sharded like the weights: moments in 8 bits are for train.parallel=data")
    elif said not in _ADAMW:
        fields.notes.append(f"optim = {said!r} does not exist here; AdamW with float32 moments is used")
    return "adamw"


def parallel(fields: Fields, *, quantized: bool) -> Literal["data", "fsdp"]:
    """Returns `train.parallel`: sharded where the peer shards the weights themselves.

    Args:
        fields: the configuration.
        quantized: whether weights are held in few bits here; those are not sharded.
    """
    found = [one for one in (_deepspeed(fields), _fsdp(fields)) if one is not None]
    for what, sharded in found:
        if sharded and not quantized:
            said = "fsdp: FSDP2 shards each layer"
        elif sharded:
            said = "data: quantised weights are not sharded here, and every process holds all of them"
        else:
            said = "data: every process holds all weights, gradients and moments (train.parallel=fsdp shards them, optim.offload moves moments to the CPU)"
        fields.notes.append(f"{what} becomes train.parallel={said}; no other setting of it is carried over; start with torchrun")
    return "fsdp" if any(sharded for _, sharded in found) and not quantized else "data"


def _deepspeed(fields: Fields) -> tuple[str, bool] | None:
    """Returns what the file says of DeepSpeed, and whether that shards weights (stage 3); None: it does not use it."""
    said = plain(fields.take("deepspeed"))
    if not said:
        return None
    held = _read(fields, "deepspeed", said)
    stage = _stage_of(held) if held is not None else next((int(digit) for digit in _STAGE.findall(str(said).rpartition("/")[2])), None)
    told = "of a stage that the file does not tell" if stage is None else f"stage {stage}"
    return f"deepspeed = {shorten(said)} ({told})", stage == 3


def _fsdp(fields: Fields) -> tuple[str, bool] | None:
    """Returns what the file says of FSDP, and whether that shards weights between passes too (full and hybrid sharding); None: it does not use it."""
    said, details = plain(fields.take("fsdp")), fields.take("fsdp_config")
    if not said:
        return None  # fsdp_config alone does nothing
    held = (_read(fields, "fsdp_config", details) if details else None) or {}
    words = " ".join(map(str, said)) if isinstance(said, list) else str(said)
    again = str(held.get("reshard_after_forward", held.get("fsdp_reshard_after_forward", True))).lower()
    sharded = not re.search("shard_grad_op|no_shard", words.lower()) and again not in ("false", "shard_grad_op", "no_shard")
    return f"fsdp = {shorten(said)}", sharded


def _stage_of(held: dict[str, Any]) -> int | None:
    """Returns the stage that a configuration of DeepSpeed names; it is 0 where there is no zero_optimization."""
    part = held.get("zero_optimization", {})
    stage = part.get("stage", 0) if isinstance(part, dict) else None
    return stage if stage in (0, 1, 2, 3) else None


def _read(fields: Fields, name: str, said: Any) -> dict[str, Any] | None:
    """Returns the configuration that a key holds, itself, as JSON, or as the path of a JSON file; None where there is no such file from here or beside ours."""
    if isinstance(said, dict):
        return said
    if not isinstance(said, str):
        raise fields.wrong(name, said, "a mapping, or the path of a JSON file")
    file: Path | None = fields.file
    inline = said.lstrip().startswith("{")
    if not inline:
        file = next((path for path in (Path(said), fields.file.parent / said) if os.path.isfile(path)), None)  # a name too long for a file names none
    if file is None:
        return None
    try:
        held = json.loads(said if inline else file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}", file=str(file), field=name) from None
    return held if isinstance(held, dict) else None
