"""LLaMA-Factory files become recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from attune.config.importers import import_config
from attune.core.errors import ConfigError
from attune.core.record import MAIN, Group, Prompt, Rating, Response
from attune.recipes.assemble import signal_of
from tests.config.importing import imported, signals, told

DPO: dict[str, Any] = {
    "model_name_or_path": "org/model",
    "trust_remote_code": True,
    "stage": "dpo",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "all",
    "pref_beta": 0.2,
    "pref_loss": "sigmoid",
    "dataset": "first, second",
    "template": "llama3",
    "cutoff_len": 2048,
    "max_samples": 1000,
    "preprocessing_num_workers": 16,
    "output_dir": "saves/llama3/lora/dpo",
    "logging_steps": 10,
    "save_steps": 500,
    "plot_loss": True,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 5.0e-6,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "ddp_timeout": 180000000,
    "val_size": 0.1,
    "eval_strategy": "steps",
    "eval_steps": 200,
}


@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_every_number_arrives(tmp_path: Path, name: str) -> None:
    found, stage = imported(tmp_path, DPO, name)
    assert found.recipe["name"] == "dpo"
    assert (stage.model.path, stage.model.trust_remote_code, stage.model.head, stage.model.dtype) == ("org/model", True, "lm", "bfloat16")
    assert (stage.model.max_prompt_tokens, stage.model.max_response_tokens, stage.model.overlong) == (2048, 2048, "cut")
    assert stage.model.adapter is not None
    assert (stage.model.adapter.rank, stage.model.adapter.alpha, stage.model.adapter.dropout, stage.model.adapter.targets) == (8, 16.0, 0.0, "all-linear")
    assert stage.objectives[0].name == "dpo"
    assert stage.objectives[0].params == {"beta": 0.2, "label_smoothing": 0.0}
    assert (stage.optim.lr, stage.optim.schedule, stage.optim.warmup) == (5e-6, "cosine", 0.1)
    assert (stage.train.epochs, stage.train.groups_per_update, stage.train.tokens_per_pass, stage.train.eval_every) == (3.0, 8, "auto", 200)
    assert stage.data is not None
    assert [source.path for source in stage.data.train] == ["data/first", "data/second"]
    assert (stage.data.eval_share, stage.data.limit, signals(stage)) == (0.1, 1000, ["all_pairs"])
    assert told(found, "template", "chat template")
    assert told(found, "2048 tokens limit prompt and response together")
    assert told(found, "'second' is not in a dataset_info.json")
    assert not told(found, "do_train")
    assert not told(found, "ddp_timeout")


@pytest.mark.parametrize(
    ("config", "objective", "params", "signal"),
    [
        ({"pref_loss": "ipo", "pref_beta": 0.3}, "ipo_mean", {"tau": 0.3}, "all_pairs"),
        ({"pref_loss": "orpo"}, "orpo", {"lambda_or": 0.2}, "all_pairs"),
        ({"pref_loss": "simpo", "pref_beta": 2.0, "simpo_gamma": 1.0}, "simpo", {"beta": 2.0, "gamma": 1.0}, "all_pairs"),
        ({"stage": "kto", "pref_beta": 0.1, "kto_rejected_weight": 0.5}, "kto", {"beta": 0.1, "lambda_d": 1.0, "lambda_u": 0.5}, "thumbs"),
        ({"stage": "rm"}, "bradley_terry", {}, "all_pairs"),
        ({"stage": "sft"}, "sft", {"per": "token"}, "demonstrations"),
    ],
)
def test_each_stage_and_loss(tmp_path: Path, config: dict[str, Any], objective: str, params: dict[str, Any], signal: str) -> None:
    _, stage = imported(tmp_path, {**DPO, **config})
    assert stage.objectives[0].name == objective
    assert stage.objectives[0].params == params
    assert stage.model.head == ("scalar" if objective == "bradley_terry" else "lm")
    assert signals(stage) == [signal]
    assert stage.train.dropout is (objective in ("sft", "bradley_terry"))


@pytest.mark.parametrize("config", [{"pref_ftx": 0.3}, {"pref_ftx": 0.3, "pref_loss": "simpo"}, {"pref_ftx": 0.3, "stage": "kto"}])
def test_imitation_beside_a_preference_loss_is_a_mean_a_response(tmp_path: Path, config: dict[str, Any]) -> None:
    found, stage = imported(tmp_path, {**DPO, **config})
    imitated = stage.objectives[1]
    assert (imitated.name, imitated.params, imitated.weight, len(stage.objectives)) == ("sft", {"per": "row"}, 0.3, 2)
    assert signals(stage) == ["thumbs" if "stage" in config else "all_pairs", "demonstrations"]
    assert told(found, "pref_ftx", "weight 0.3", "each chosen response's tokens", "one device's pass")
    assert told(found, "desirable rows") is ("stage" in config)


def test_beside_kto_the_desirable_responses_are_imitated(tmp_path: Path) -> None:
    _, stage = imported(tmp_path, {**DPO, "stage": "kto", "pref_ftx": 1.0})
    assert stage.data is not None
    ratings = tuple(Rating(response=index, value=value, scale=(0.0, 1.0)) for index, value in enumerate((0.0, 1.0, 1.0)))
    group = Group(id="g", contexts={MAIN: Prompt(content="x")}, responses=tuple(Response(content=text) for text in "abc"), ratings=ratings)
    said = signal_of(stage.data)(group)
    assert said.labels == {0: False, 1: True, 2: True}
    assert said.demos == (1, 2)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"pref_loss": "ipo"}, ("averages log-probabilities",)),
        ({"lora_dropout": 0.1}, ("lora_dropout = 0.1", "no effect")),
        ({"quantization_bit": 4, "finetuning_type": "full"}, ("quantization_bit", "no adapter", "memory is larger")),
        ({"quantization_bit": 3}, ("quantization_bit", "3 bits", "memory is larger")),
        ({"quantization_bit": 4, "quantization_method": "hqq"}, ("quantization_bit", "hqq", "memory is larger")),
        ({"quantization_bit": 4, "quantization_type": "fp4"}, ("fp4", "nf4 here")),
        ({"quantization_bit": 4, "double_quantization": False}, ("scales of 4-bit blocks",)),
        ({"use_rslora": True}, ("use_rslora", "sqrt(rank)")),
        ({"train_on_prompt": True}, ("train_on_prompt",)),
        ({"packing": True}, ("packing", "padding")),
        ({"val_size": 200}, ("val_size = 200", "share")),
        ({"adapter_name_or_path": "a,b"}, ("several adapters",)),
        ({"use_dora": True}, ("use_dora", "no such setting")),
        ({"pref_bco_weight": 0.5}, ("pref_bco_weight",)),
    ],
)
def test_what_means_something_else_is_said(tmp_path: Path, config: dict[str, Any], words: tuple[str, ...]) -> None:
    found, _ = imported(tmp_path, {**DPO, **config})
    assert told(found, *words), found.notes


def test_experts_are_balanced_as_there(tmp_path: Path) -> None:
    assert imported(tmp_path, {**DPO, "moe_aux_loss_coef": 0.001})[1].train.balance_experts == 0.001
    assert imported(tmp_path, DPO)[1].train.balance_experts is None


def test_another_reference_is_held_against(tmp_path: Path) -> None:
    for config, wanted in (({"ref_model": "org/other"}, ("checkpoint", "org/other")), ({"ref_model": DPO["model_name_or_path"]}, ("auto", None))):
        found, stage = imported(tmp_path, {**DPO, **config})
        assert (stage.reference.source, stage.reference.path) == wanted
        assert not told(found, "ref_model")


@pytest.mark.parametrize(("loss", "name"), [({"pref_loss": "simpo"}, "simpo"), ({"pref_loss": "orpo"}, "orpo"), ({"stage": "sft"}, "sft")])
def test_a_reference_that_nothing_reads_is_left_out(tmp_path: Path, loss: dict[str, Any], name: str) -> None:
    found, stage = imported(tmp_path, {**DPO, **loss, "ref_model": "org/other"})
    assert (stage.reference.source, stage.reference.path) == ("auto", None)
    assert told(found, "ref_model = 'org/other' is left out", f"{name} reads no reference")
    assert imported(tmp_path, {**DPO, "stage": "kto", "ref_model": "org/other"})[1].reference.path == "org/other"


def test_its_defaults_differ_from_ours_and_are_written_down(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, {"model_name_or_path": "m", "stage": "dpo", "dataset": "d"})
    assert stage.model.adapter is not None
    assert (stage.model.adapter.rank, stage.model.adapter.alpha) == (8, 16.0)
    assert (stage.optim.lr, stage.optim.schedule, stage.train.epochs, stage.train.groups_per_update) == (5e-5, "linear", 3.0, 8)
    assert told(found, "LLaMA-Factory's own defaults", "learning_rate = 5e-05", "lora_rank = 8", "cutoff_len = 2048", "pref_beta = 0.1")


def test_all_weights(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, {**DPO, "finetuning_type": "full"})
    assert stage.model.adapter is None
    assert (stage.model.dtype, stage.model.compute) == ("float32", "bfloat16")
    assert not told(found, "bf16")
    found, stage = imported(tmp_path, {**DPO, "finetuning_type": "full", "pure_bf16": True})
    assert (stage.model.dtype, stage.model.compute) == ("bfloat16", "same")
    assert not told(found, "bf16")


def test_a_trained_adapter_goes_on_and_is_held_against_the_model_below_it(tmp_path: Path) -> None:
    """There the reference is the policy with its adapter switched off, also where the adapter was trained before."""
    config = {**DPO, "adapter_name_or_path": "saves/sft"}
    _, stage = imported(tmp_path, config)
    assert stage.model.adapter is not None
    assert (stage.model.adapter.path, stage.reference.source) == ("saves/sft", "adapter_off")
    assert imported(tmp_path, {**config, "pref_loss": "orpo"})[1].reference.source == "auto"
    assert imported(tmp_path, {**config, "ref_model": "org/other"})[1].reference.source == "checkpoint"


def test_data_sets_are_looked_up_in_dataset_info(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    info = {
        "first": {"file_name": "first.json", "ranking": True},
        "second": {"hf_hub_url": "org/second", "ranking": True, "columns": {"prompt": "instruction"}},
        "third": {"script_url": "third.py"},
    }
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    found, stage = imported(tmp_path, {**DPO, "dataset": "first,second,third", "eval_dataset": "first", "val_size": 0.0})
    assert stage.data is not None
    assert [source.path for source in stage.data.train] == ["data/first.json", "hub:org/second@train", "data/third"]
    assert [source.path for source in stage.data.eval or ()] == ["data/first.json"]
    assert told(found, "'second' renames columns")
    assert told(found, "'third' comes from a script")
    (tmp_path / "data" / "dataset_info.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match=r"dataset_info\.json: not JSON"):
        imported(tmp_path, DPO)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"stage": "ppo"}, "stage.*'ppo'.*dpo, kto, rm, sft"),
        ({"finetuning_type": "freeze"}, "finetuning_type.*'freeze'.*lora, full"),
        ({"pref_loss": "hinge"}, "pref_loss.*'hinge'.*sigmoid, ipo, orpo, simpo"),
        ({"pref_beta": "strong"}, "pref_beta.*'strong'.*a number"),
        ({"model_name_or_path": None}, "model_name_or_path: a required field"),
        ({"dataset": None}, "dataset: a required field"),
        ({"dataset": {"a": 1}}, "dataset.*a name or a list of names"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        imported(tmp_path, {**DPO, **config})


def test_another_method_than_the_file_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(DPO), "utf-8")
    with pytest.raises(ConfigError, match=r"another method.*'dpo'"):
        import_config(path, method="sft")


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{\n"stage": \n}', "utf-8")
    with pytest.raises(ConfigError, match=r"c\.json:3: not JSON"):
        import_config(path)
