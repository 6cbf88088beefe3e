"""How TRL and LLaMA-Factory hold weights, moments and activations, and share them, becomes the recipe's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import ConfigError
from tests.config.importing import imported, told

TRL: dict[str, Any] = {"model_name_or_path": "org/model", "dataset_name": "org/feedback", "loss_type": "sigmoid", "dtype": "bfloat16"}
FACTORY: dict[str, Any] = {"model_name_or_path": "org/model", "stage": "dpo", "finetuning_type": "lora", "dataset": "d", "bf16": True}


@pytest.fixture(autouse=True)
def bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe is does not depend on the packages of the machine that reads it; only running it does."""
    monkeypatch.setattr("attune.training.optim.find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, ("float32", "bfloat16")),
        ({"bf16": True}, ("float32", "bfloat16")),
        ({"bf16": False}, ("float32", "same")),
        ({"fp16": True}, ("float32", "bfloat16")),
        ({"dtype": "float32", "bf16": True}, ("float32", "bfloat16")),
        ({"torch_dtype": "bfloat16"}, ("bfloat16", "same")),
        ({"dtype": "bfloat16", "bf16": False}, ("bfloat16", "same")),
    ],
)
def test_weights_and_products_have_their_types(tmp_path: Path, config: dict[str, Any], wanted: tuple[str, str]) -> None:
    found, stage = imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "d", "loss_type": "sigmoid", **config})
    assert (stage.model.dtype, stage.model.compute) == wanted
    assert told(found, "bf16 is not in the file") is (config == {})


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"load_in_4bit": True, "use_bnb_nested_quant": True}, "nf4"),
        ({"load_in_4bit": True}, "nf4"),
        ({"load_in_8bit": True}, "int8"),
        ({"load_in_4bit": True, "use_peft": False}, None),
        ({"load_in_4bit": False}, None),
    ],
)
def test_weights_in_few_bits_lie_below_an_adapter(tmp_path: Path, config: dict[str, Any], wanted: str | None) -> None:
    found, stage = imported(tmp_path, {**TRL, "use_peft": True, **config})
    assert stage.model.quantize == wanted
    assert told(found, "not carried over: load_in_4bit") is ("use_peft" in config)
    assert told(found, "scales of 4-bit blocks") is (config == {"load_in_4bit": True})


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"gradient_checkpointing": True}, "recompute"),
        ({"gradient_checkpointing": True, "activation_offloading": True}, "offload"),
        ({"gradient_checkpointing": False}, "keep"),
        ({}, "keep"),
    ],
)
def test_activations_are_left_as_there(tmp_path: Path, config: dict[str, Any], wanted: str) -> None:
    found, stage = imported(tmp_path, {**TRL, **config})
    assert stage.train.activations == wanted
    assert found.notes == imported(tmp_path, TRL)[0].notes


@pytest.mark.parametrize(
    ("optim", "wanted"),
    [
        ("adamw_8bit", "adamw8bit"),
        ("adamw_bnb_8bit", "adamw8bit"),
        ("paged_adamw_8bit", "adamw8bit"),
        ("paged_adamw_32bit", "adamw"),
        ("adamw_torch_fused", "adamw"),
        ("lion_8bit", "adamw"),
    ],
)
def test_moments_are_held_as_there(tmp_path: Path, optim: str, wanted: str) -> None:
    found, stage = imported(tmp_path, {**TRL, "optim": optim})
    assert stage.optim.name == wanted
    assert told(found, "paged_adamw_8bit", "optim.offload") is (optim == "paged_adamw_8bit")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"deepspeed": "configs/zero3.json"}, "fsdp"),
        ({"deepspeed": "configs/ds_z2_offload_config.json"}, "data"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "fsdp"),
        ({"deepspeed": {"zero_optimization": {"stage": 1}}}, "data"),
        ({"deepspeed": {"bf16": {"enabled": True}}}, "data"),
        ({"deepspeed": '{"zero_optimization": {"stage": 3}}'}, "fsdp"),
        ({"deepspeed": "mine_zero1.json"}, "fsdp"),
        ({"fsdp": True}, "fsdp"),
        ({"fsdp": "full_shard auto_wrap", "fsdp_config": {"min_num_params": 1}}, "fsdp"),
        ({"fsdp": ["hybrid_shard", "offload"]}, "fsdp"),
        ({"fsdp": "shard_grad_op"}, "data"),
        ({"fsdp": True, "fsdp_config": {"reshard_after_forward": False}}, "data"),
        ({"fsdp": "full_shard", "use_peft": True, "load_in_4bit": True}, "data"),
    ],
)
def test_weights_that_are_sharded_there_are_sharded_here(tmp_path: Path, config: dict[str, Any], wanted: str) -> None:
    (tmp_path / "mine_zero1.json").write_text('{"zero_optimization": {"stage": 3}}', "utf-8")  # what it holds counts, not how it is called
    found, stage = imported(tmp_path, {**TRL, **config})
    assert stage.train.parallel == wanted
    assert told(found, next(iter(config)), "becomes train.parallel=", "torchrun")
    assert told(found, "quantised weights are not sharded") is ("load_in_4bit" in config)
    assert not told(found, "fsdp_config")
    assert told(found, f"becomes train.parallel={wanted}")


def test_fsdp_settings_alone_do_nothing(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, {**TRL, "fsdp": "", "fsdp_config": {"min_num_params": 0}})
    assert stage.train.parallel == "data"
    assert found.notes == imported(tmp_path, TRL)[0].notes


def test_a_deepspeed_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero3.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match=r"zero3\.json.*not JSON"):
        imported(tmp_path, {**TRL, "deepspeed": "zero3.json"})
    with pytest.raises(ConfigError, match=r"deepspeed.*a mapping, or the path"):
        imported(tmp_path, {**TRL, "deepspeed": 3})


def test_weights_moments_and_activations_of_llamafactory(tmp_path: Path) -> None:
    config = {"quantization_bit": 4, "optim": "paged_adamw_8bit", "gradient_checkpointing": True, "disable_gradient_checkpointing": False}
    found, stage = imported(tmp_path, {**FACTORY, **config})
    assert (stage.model.quantize, stage.optim.name, stage.train.activations, stage.train.parallel) == ("nf4", "adamw8bit", "recompute", "data")
    assert not told(found, "not carried over: quantization_bit")
    assert imported(tmp_path, {**FACTORY, "quantization_bit": 8})[1].model.quantize == "int8"
    assert imported(tmp_path, {**FACTORY, "gradient_checkpointing": True, "disable_gradient_checkpointing": True})[1].train.activations == "keep"
    assert imported(tmp_path, {**FACTORY, "deepspeed": "examples/deepspeed/ds_z3_config.json"})[1].train.parallel == "fsdp"
    assert imported(tmp_path, {**FACTORY, "deepspeed": "examples/deepspeed/ds_z0_config.json"})[1].train.parallel == "data"
