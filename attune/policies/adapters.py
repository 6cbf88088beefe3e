"""Low-rank adapters through peft: a new one, one from a folder, and the model as it is without."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from attune.core.errors import AttuneError, ConfigError
from attune.policies.folders import foreign, read_object

_NEW = ("rank", "alpha", "dropout", "targets")
_SAVED = ("path", "trainable")
_TASK = {"lm": "CAUSAL_LM", "scalar": "SEQ_CLS"}


def add_adapter(model: Any, options: Mapping[str, Any], *, head: str = "lm") -> Any:
    """Puts a LoRA adapter around a model and freezes the model.

    Args:
        model: a model of transformers, without adapter.
        options: for a new adapter `rank` (16), `alpha` (twice the rank; the product of its factors is scaled by alpha / rank),
            `dropout` (0) and `targets` ("all-linear", or names of layers); for a saved one `path`, a folder, and `trainable` (True).
        head: "lm" or "scalar"; the reward head stays trainable beside the adapter.

    Returns:
        A peft model. A new adapter starts at exactly the model's own function.

    Raises:
        ConfigError: an option that does not exist. AttuneError: the folder holds no adapter in safetensors.
    """
    known = _SAVED if "path" in options else _NEW
    for name, value in options.items():
        if name not in known:
            raise ConfigError("no such option of an adapter", field=f"adapter.{name}", value=value, allowed=", ".join(known))
    if "path" in options:
        return load_adapter(model, str(options["path"]), head=head, trainable=bool(options.get("trainable", True)))
    from peft import LoraConfig, get_peft_model

    rank = int(options.get("rank", 16))
    if rank < 1:
        raise ConfigError("a rank is at least 1", field="adapter.rank", value=rank)
    config = LoraConfig(
        r=rank,
        lora_alpha=options.get("alpha", 2 * rank),
        lora_dropout=options.get("dropout", 0.0),
        target_modules=options.get("targets", "all-linear"),
        task_type=_TASK[head],
        fan_in_fan_out=any(type(part).__name__ == "Conv1D" for part in model.modules()),  # GPT-2 keeps its weights transposed
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:  # peft knows which layers there are
        raise ConfigError(str(error), field="adapter.targets", value=options.get("targets")) from error


def load_adapter(model: Any, folder: str, *, head: str = "lm", trainable: bool = True) -> Any:
    """Puts a saved adapter around a model.

    Raises:
        AttuneError: the folder holds no adapter, or none in safetensors, or one of a model with another head.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise AttuneError("the folder holds no adapter in safetensors", file=folder, mend=f"{name} is missing")
    task = read_object(os.path.join(folder, "adapter_config.json")).get("task_type")
    if task not in (None, _TASK[head]):
        mend = "train on from the merged model in place of the adapter"
        raise ConfigError("the adapter was trained for another head", file=folder, field="task_type", value=task, allowed=_TASK[head], mend=mend)
    from peft import PeftModel

    with foreign("the adapter", folder, "model.adapter"):
        return PeftModel.from_pretrained(model, folder, is_trainable=trainable, use_safetensors=True)


def has_adapter(module: Any) -> bool:
    """Returns whether a module is a peft model."""
    return hasattr(module, "disable_adapter")


def adapter_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Returns the weights that belong to the adapter, a reward head trained beside it included."""
    return {name: parameter for name, parameter in module.named_parameters() if is_adapter_name(name)}


def is_adapter_name(name: str) -> bool:
    """Returns whether a weight of a peft model belongs to its adapter."""
    return "lora_" in name or ".modules_to_save." in name


@contextmanager
def adapter_off(policy: Any) -> Iterator[None]:
    """Inside the block the policy is the model without its adapter; what was trainable is trainable again after it.

    Raises:
        ConfigError: the policy has no adapter.
    """
    check_adapter(policy)
    trainable = [(parameter, parameter.requires_grad) for parameter in policy.module.parameters()]
    try:
        with policy.module.disable_adapter():
            yield
    finally:
        for parameter, wanted in trainable:
            parameter.requires_grad_(wanted)


def check_adapter(policy: Any) -> None:
    """Raises ConfigError where a policy has no adapter."""
    if not has_adapter(policy.module):
        raise ConfigError("the policy has no adapter to switch off or to look back on", field="reference", allowed="a frozen copy")
