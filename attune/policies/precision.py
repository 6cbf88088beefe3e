"""In what numbers a model computes and is held: products in 16 bits over float32 weights, and frozen weights in 4 or 8 bits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from attune.core.errors import ConfigError

COMPUTE = ("same", "bfloat16")
QUANTIZE = ("nf4", "int8")


def products(device: torch.device, compute: str) -> AbstractContextManager[Any]:
    """Returns a block inside of which a model's products are computed as asked.

    Args:
        device: where the model is.
        compute: "same": in the type of its weights; "bfloat16": torch's autocast, which rounds the inputs of products to 16 bits, adds up in
            float32, and leaves norms, softmax and sums in float32.
    """
    return nullcontext() if compute == "same" else torch.autocast(device.type, torch.bfloat16)


def check_compute(compute: str, dtype: torch.dtype) -> None:
    """Raises ConfigError for a way to compute that does not exist, or that changes nothing for weights of this type."""
    if compute not in COMPUTE:
        raise ConfigError("no such way to compute", field="compute", value=compute, allowed=", ".join(COMPUTE))
    if compute != "same" and dtype != torch.float32:
        raise ConfigError("weights that are not in float32 are computed in their own type", field="compute", value=compute, allowed="same")


def quantized(name: str | None, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Returns the options with which transformers reads a model whose linear layers are held in few bits, on its device.

    The vocabulary head, a reward head, embeddings and norms keep their type: nothing is widened or narrowed beside the linear layers.

    Args:
        name: "nf4": 4-bit normal floats in blocks of 64, their scales in 8 bits in blocks of 256 (Dettmers et al. 2023, arXiv 2305.14314);
            "int8": one scale a row, outliers in 16 bits (Dettmers et al. 2022, arXiv 2208.07339); None: nothing is quantised.
        dtype: in which the model computes; 4-bit weights are put back into it for each product.
        device: where the model goes.

    Raises:
        ConfigError: there is no such form, or bitsandbytes is not installed.
    """
    if name is None:
        return {}
    if name not in QUANTIZE:
        raise ConfigError("no such form of weights", field="quantize", value=name, allowed=", ".join(QUANTIZE))
    if dtype == torch.float64:
        raise ConfigError("a model of 64 bits is not quantised", field="quantize", value=name, allowed="with dtype float32 or bfloat16")
    if find_spec("bitsandbytes") is None:
        raise ConfigError("bitsandbytes is not installed", field="quantize", value=name, mend="pip install 'attune[quant]'")
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {"load_in_8bit": True}
    if name == "nf4":
        options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    place = f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": place}}


def keep_packing(model: Any) -> None:
    """Keeps the 4-bit weights of a model on a CPU as they are: bitsandbytes would pack them anew, for inference alone, at the first pass without gradient."""
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def is_quantized(model: Any) -> bool:
    """Returns whether a model of transformers, from inside its adapter, was read with quantised weights."""
    return bool(getattr(model, "is_quantized", False))
