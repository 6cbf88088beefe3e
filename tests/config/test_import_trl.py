"""TRL files become recipes: the numbers arrive where they belong, and nothing is lost without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attune.config.importers import Imported, import_config
from attune.config.load import build_recipe
from attune.core.errors import ConfigError
from attune.core.record import MAIN, Group, Prompt, Response, Verdict
from attune.recipes.assemble import signal_of
from tests.config.importing import imported, signals, told

DPO: dict[str, Any] = {
    "model_name_or_path": "org/model",
    "dataset_name": "org/feedback",
    "loss_type": "sigmoid",
    "beta": 0.25,
    "label_smoothing": 0.1,
    "learning_rate": "5.0e-7",
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.05,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 8,
    "max_length": 1024,
    "max_prompt_length": 400,
    "max_grad_norm": 0.5,
    "weight_decay": 0.01,
    "seed": 7,
    "eval_strategy": "steps",
    "eval_steps": 50,
    "save_steps": 100,
    "save_total_limit": 3,
    "output_dir": "out/my run",
    "logging_steps": 5,
    "bf16": True,
    "dtype": "bfloat16",
}


def test_every_number_arrives(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, DPO)
    assert found.recipe["name"] == "my-run"
    assert stage.seed == 7
    assert stage.model.path == "org/model"
    assert (stage.model.max_prompt_tokens, stage.model.max_response_tokens, stage.model.overlong) == (400, 624, "cut")
    assert stage.model.dtype == "bfloat16"
    assert stage.model.adapter is None
    assert stage.objectives[0].name == "dpo"
    assert stage.objectives[0].params == {"beta": 0.25, "label_smoothing": 0.1}
    optim = stage.optim
    assert (optim.lr, optim.schedule, optim.warmup, optim.floor, optim.weight_decay, optim.clip_norm) == (5e-7, "cosine", 0.05, 0.0, 0.01, 0.5)
    train = stage.train
    assert (train.epochs, train.updates, train.groups_per_update, train.tokens_per_pass) == (2.0, None, 32, "auto")
    assert (train.eval_every, train.save_every, train.keep_last, train.dropout) == (50, 100, 3, False)
    assert stage.data is not None
    assert [source.path for source in stage.data.train] == ["hub:org/feedback@train"]
    assert [source.path for source in stage.data.eval or ()] == ["hub:org/feedback@test"]
    assert signals(stage) == ["all_pairs"]
    assert told(found, "groups_per_update = 32", "number of devices")
    assert not told(found, "defaults")
    assert not told(found, "not carried over")


def test_defaults_of_the_other_trainer_are_written_down_and_named(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "d", "loss_type": "sigmoid"})
    assert (stage.optim.lr, stage.optim.schedule, stage.optim.warmup, stage.train.epochs, stage.train.groups_per_update) == (1e-6, "linear", 0.0, 3.0, 8)
    assert stage.objectives[0].params["beta"] == 0.1
    assert told(found, "own defaults", "beta = 0.1", "learning_rate = 1e-06", "num_train_epochs = 3", "max_length = 1024", "seed = 42")
    assert stage.data is not None
    assert stage.data.eval_share == 0.0
    assert told(found, "nothing is held out")


@pytest.mark.parametrize(
    ("config", "lr", "objective", "params"),
    [
        ({"loss_type": ["ipo"], "beta": 0.3}, 1e-6, "ipo_mean", {"tau": 0.3}),
        ({"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.6, "cpo_alpha": 0.0}, 1e-6, "simpo", {"beta": 2.0, "gamma": 1.6}),
        ({"loss_type": "sigmoid", "beta": 2.5, "gamma_beta_ratio": 0.55}, 1e-6, "simpo", {"beta": 2.5, "gamma": 1.375}),
        ({"loss_type": "kto", "desirable_weight": 1.33}, 1e-6, "kto", {"beta": 0.1, "lambda_d": 1.33, "lambda_u": 1.0}),
        ({"center_rewards_coefficient": 0.01}, 1e-4, "bradley_terry", {"centring": 0.01}),
        ({"output_dir": "x/orpo", "beta": 0.2}, 1e-6, "orpo", {"lambda_or": 0.2}),
        ({"assistant_only_loss": True}, 2e-5, "sft", {"per": "token"}),
    ],
)
def test_each_trainer(tmp_path: Path, config: dict[str, Any], lr: float, objective: str, params: dict[str, float]) -> None:
    _, stage = imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "d", **config})
    assert stage.optim.lr == lr
    assert stage.objectives[0].name == objective
    assert stage.objectives[0].params == pytest.approx(params)
    assert stage.model.head == ("scalar" if objective == "bradley_terry" else "lm")
    assert stage.model.overlong == ("drop" if objective == "bradley_terry" else "cut")
    assert stage.train.dropout is (objective == "sft")
    assert len(stage.objectives) == 1
    assert signals(stage) == [{"kto": "thumbs", "sft": "demonstrations"}.get(objective, "all_pairs")]


@pytest.mark.parametrize(
    ("config", "main", "imitation", "key"),
    [
        ({"loss_type": "sigmoid", "rpo_alpha": 0.5}, ("dpo", 1.0), 0.5, "rpo_alpha"),
        ({"loss_type": ["sigmoid", "sft"]}, ("dpo", 1.0), 1.0, "the loss sft"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [0.5, 0.2]}, ("dpo", 0.5), 0.2, "the loss sft"),
        ({"loss_type": ["sft", "ipo"], "loss_weights": [3, 2], "rpo_alpha": 0.25}, ("ipo_mean", 2.0), 3.25, "the loss sft"),
        ({"loss_type": "simpo", "beta": 2.0}, ("simpo", 1.0), 1.0, "cpo_alpha"),
        ({"loss_type": "simpo", "beta": 2.0, "cpo_alpha": 0.3}, ("simpo", 1.0), 0.3, "cpo_alpha"),
        ({"loss_type": "sigmoid", "gamma_beta_ratio": 0.5, "beta": 2.0, "sft_weight": 0.1}, ("simpo", 1.0), 0.1, "sft_weight"),
    ],
)
def test_imitation_beside_a_preference_loss(tmp_path: Path, config: dict[str, Any], main: tuple[str, float], imitation: float, key: str) -> None:
    found, stage = imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "d", **config})
    assert [(one.name, one.weight) for one in stage.objectives] == [main, ("sft", imitation)]
    assert stage.objectives[1].params == {"per": "token"}
    assert signals(stage) == ["all_pairs", "demonstrations"]
    assert told(found, key, f"weight {imitation:g}", "tokens of all chosen responses", "one device's pass")


def test_every_chosen_response_is_imitated_once_and_no_rejected_one(tmp_path: Path) -> None:
    """Three records of one prompt: 0 beats 1, 0 beats 2, 3 beats 1. The other trainer imitates 0 (twice) and 3."""
    _, stage = imported(tmp_path, {**DPO, "rpo_alpha": 1.0})
    assert stage.data is not None
    pairs = [(0, 1), (0, 2), (3, 1)]
    group = Group(
        id="g",
        contexts={MAIN: Prompt(content="x")},
        responses=tuple(Response(content=text) for text in "abcd"),
        verdicts=tuple(Verdict(tiers=((first,), (second,))) for first, second in pairs),
    )
    said = signal_of(stage.data)(group)
    assert [(pair.first, pair.second) for pair in said.pairs] == pairs
    assert said.demos == (0, 3)


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.0], ["a", 1], 0.5])
def test_weights_that_do_not_fit_the_losses_are_refused(tmp_path: Path, weights: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss_weights.*a positive number for each of sigmoid, sft"):
        imported(tmp_path, {**DPO, "loss_type": ["sigmoid", "sft"], "loss_weights": weights})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"loss_type": "ipo"}, ("averages log-probabilities",)),
        ({"loss_type": "sigmoid", "gamma_beta_ratio": 0.5, "beta": 2.0}, ("gamma / beta", "1")),
        ({"reference_free": True}, ("reference_free",)),
        ({"load_in_4bit": True}, ("load_in_4bit", "no adapter", "memory is larger")),
        ({"deepspeed": "auto.json"}, ("deepspeed", "a stage that the file does not tell", "train.parallel=data")),
        ({"lr_scheduler_type": "inverse_sqrt"}, ("inverse_sqrt", "cosine")),
        ({"optim": "adafactor"}, ("adafactor", "AdamW with float32 moments")),
        ({"optim": "adamw_8bit", "fsdp": "full_shard"}, ("adamw_8bit", "float32 moments", "train.parallel=data")),
        ({"warmup_steps": 100}, ("warmup_steps = 100",)),
        ({"fp16": True}, ("float16", "model.compute")),
        ({"dtype": "float16"}, ("float16", "the weights are bfloat16")),
        ({}, ("bf16 is not in the file", "model.compute is bfloat16 over float32 weights")),
        ({"truncation_mode": "keep_end"}, ("keep_end",)),
        ({"max_length": 512}, ("512 tokens limit prompt and response together",)),
        ({"dataset_config": "part"}, ("dataset_config", "part")),
        ({"eval_strategy": "epoch"}, ("'epoch'", "eval_every")),
        ({"save_strategy": "epoch"}, ("save_strategy = 'epoch'", "no checkpoints")),
        ({"save_steps": 0.1}, ("save_steps = 0.1", "no checkpoints")),
        ({"chat_template_path": "org/other"}, ("chat_template_path", "own chat template")),
        ({"never_heard_of": 3}, ("never_heard_of = 3", "no such setting")),
    ],
)
def test_what_means_something_else_is_said(tmp_path: Path, config: dict[str, Any], words: tuple[str, ...]) -> None:
    found, _ = imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "d", "loss_type": "sigmoid", **config})
    assert told(found, *words), found.notes


def test_a_loss_that_is_left_out_comes_first(tmp_path: Path) -> None:
    found, _ = imported(tmp_path, {**DPO, "deepspeed": "zero3.json", "use_weighting": True})
    assert found.notes[0].startswith("not carried over: use_weighting")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"sync_ref_model": True, "ref_model_mixup_alpha": 0.25, "ref_model_sync_steps": 64}, ("refreshed", 0.25, 64)),
        ({"sync_ref_model": True}, ("refreshed", 0.6, 512)),
        ({"sync_ref_model": False, "ref_model_mixup_alpha": 0.25, "ref_model_sync_steps": 64}, ("auto", None, None)),
    ],
)
def test_a_reference_that_is_synchronised_is_refreshed(tmp_path: Path, config: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    found, stage = imported(tmp_path, {**DPO, **config})
    assert (stage.reference.source, stage.reference.alpha, stage.reference.every) == wanted
    assert not any(note.startswith("not carried over: ref") for note in found.notes)
    assert told(found, "ref_model_mixup_alpha = 0.6") is (config == {"sync_ref_model": True})


def test_a_reference_model_is_a_checkpoint_where_one_is_read(tmp_path: Path) -> None:
    def reference(config: dict[str, Any]) -> tuple[Imported, tuple[str, str | None]]:
        found, stage = imported(tmp_path, {**DPO, "ref_model": "org/other", **config})
        return found, (stage.reference.source, stage.reference.path)

    found, held = reference({})
    assert held == ("checkpoint", "org/other")
    assert not told(found, "ref_model")
    assert reference({"ref_model": DPO["model_name_or_path"]})[1] == ("auto", None)
    found, held = reference({"sync_ref_model": True})
    assert held == ("refreshed", None)
    assert told(found, "ref_model = 'org/other' is left out", "begins at the model itself")
    found, stage = imported(tmp_path, {**DPO, "ref_model": "org/other", "label_smoothing": 0.0}, method="orpo")
    assert stage.reference.source == "auto"
    assert told(found, "ref_model = 'org/other' is left out", "orpo reads no reference")
    bare = {"model_name_or_path": "m", "dataset_name": "d", "loss_type": "kto"}
    assert imported(tmp_path, {**bare, "ref_model": "org/other"}, method="kto")[1].reference.path == "org/other"
    assert imported(tmp_path, {**bare, "sync_ref_model": True}, method="kto")[1].reference.source == "refreshed"


def test_a_jinja_template_becomes_the_models(tmp_path: Path) -> None:
    found, stage = imported(tmp_path, {**DPO, "chat_template_path": "turns.jinja"}, method="dpo")
    assert stage.model.chat == "turns.jinja"
    assert not told(found, "chat_template_path")


def test_switches_may_be_words_as_in_older_yaml(tmp_path: Path) -> None:
    path = tmp_path / "dpo.yaml"
    base = "model_name_or_path: m\ndataset_name: d\nlearning_rate: 1e-6\n"
    path.write_text(f"{base}bf16: yes\ntrust_remote_code: on\neval_strategy: no\nsave_strategy: no\nsync_ref_model: off\n", "utf-8")
    found = import_config(path)
    stage = build_recipe(found.recipe).stages[0]
    assert stage.model.trust_remote_code
    assert stage.model.compute == "bfloat16"
    assert (stage.train.eval_every, stage.train.save_every) == (None, None)
    assert not told(found, "bf16")
    assert not told(found, "sync_ref_model")
    assert not told(found, "save_strategy")


def test_what_is_switched_off_or_only_prints_is_not_mentioned(tmp_path: Path) -> None:
    quiet = {
        "sync_ref_model": False,
        "rpo_alpha": None,
        "deepspeed": None,
        "logging_first_step": True,
        "hub_model_id": "x/y",
        "dataset_num_proc": 4,
        "report_to": "none",
    }
    assert imported(tmp_path, {**DPO, **quiet})[0].notes == imported(tmp_path, DPO)[0].notes


def test_an_adapter(tmp_path: Path) -> None:
    lora = {"use_peft": True, "lora_r": 8, "lora_alpha": 24, "lora_dropout": 0.05, "lora_target_modules": ["q_proj", "v_proj"]}
    found, stage = imported(tmp_path, {**DPO, **lora})
    assert stage.model.adapter is not None
    adapter = stage.model.adapter
    assert (adapter.rank, adapter.alpha, adapter.targets) == (8, 24.0, ("q_proj", "v_proj"))
    assert adapter.dropout == 0.0
    assert told(found, "lora_dropout = 0.05", "switches dropout off")
    _, stage = imported(tmp_path, {**DPO, **lora, "disable_dropout": False, "lora_target_modules": "all-linear"})
    assert stage.model.adapter is not None
    assert (stage.model.adapter.dropout, stage.train.dropout, stage.model.adapter.targets) == (0.05, True, "all-linear")
    assert imported(tmp_path, {**DPO, **lora, "use_peft": False})[1].model.adapter is None


def test_schedules(tmp_path: Path) -> None:
    assert imported(tmp_path, {**DPO, "lr_scheduler_type": "constant"})[1].optim.warmup == 0.0
    assert imported(tmp_path, {**DPO, "lr_scheduler_type": "constant_with_warmup"})[1].optim.schedule == "constant"
    floor = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
    assert imported(tmp_path, {**DPO, **floor})[1].optim.floor == 0.1
    stepped = imported(tmp_path, {**DPO, "warmup_steps": 20, "max_steps": 400})[1]
    assert (stepped.optim.warmup, stepped.train.updates) == (0.05, 400)


def test_sources(tmp_path: Path) -> None:
    def paths(config: dict[str, Any]) -> list[str]:
        base = {key: value for key, value in DPO.items() if key != "dataset_name"}
        stage = imported(tmp_path, {**base, **config})[1]
        assert stage.data is not None
        return [source.path for source in (*stage.data.train, *(stage.data.eval or ()))]

    assert paths({"dataset_name": "pairs.jsonl"}) == ["pairs.jsonl"]
    assert paths({"dataset_name": "org/d", "dataset_train_split": "train_prefs", "dataset_test_split": "test_prefs"}) == [
        "hub:org/d@train_prefs",
        "hub:org/d@test_prefs",
    ]
    assert paths({"datasets": [{"path": "json", "data_files": ["a.jsonl", "b.jsonl"]}, {"path": "org/e", "split": "validation"}]}) == [
        "a.jsonl",
        "b.jsonl",
        "hub:org/e@validation",
    ]
    mixer = {"dataset_mixer": {"org/f": 1.0}, "dataset_splits": ["train_prefs", "test_prefs"]}
    assert paths(mixer) == ["hub:org/f@train_prefs", "hub:org/f@test_prefs"]


@pytest.mark.parametrize("loss", ["hinge", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot", "apo_zero", "discopop"])
def test_a_loss_that_does_not_exist_here_is_refused(tmp_path: Path, loss: str) -> None:
    with pytest.raises(ConfigError, match=f"loss_type.*'{loss}'.*sigmoid, ipo"):
        imported(tmp_path, {**DPO, "loss_type": loss}, method="dpo")


def test_the_method_is_told_by_keys_names_or_the_caller(tmp_path: Path) -> None:
    bare = {"model_name_or_path": "m", "dataset_name": "d"}
    with pytest.raises(ConfigError, match=r"cannot tell which of TRL's trainers.*no key tells; name the method"):
        imported(tmp_path, bare)
    with pytest.raises(ConfigError, match="cpo and kto"):
        imported(tmp_path, {**bare, "cpo_alpha": 1.0, "desirable_weight": 1.0})
    assert imported(tmp_path, bare, method="reward")[1].objectives[0].name == "bradley_terry"
    assert imported(tmp_path, bare, name="my_orpo.yaml")[1].objectives[0].name == "orpo"
    assert imported(tmp_path, {**bare, "simpo_gamma": 0.5, "cpo_alpha": 0.0, "loss_type": "simpo"}, name="simpo.yaml")[1].objectives[0].name == "simpo"
    with pytest.raises(ConfigError, match="CPO itself"):
        imported(tmp_path, {**bare, "loss_type": "sigmoid"}, name="cpo.yaml")
    with pytest.raises(ConfigError, match=r"no such method.*'ppo'"):
        imported(tmp_path, bare, method="ppo")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "a configuration is a mapping"),
        ("1: x\n", "a configuration is a mapping"),
        ("lr: 3\n", "not recognised"),
        ("loss_type: [sigmoid\n", "not YAML"),
        ("loss_type: sigmoid\ndataset_name: d\n", "model_name_or_path: a required field"),
        ("loss_type: sigmoid\nmodel_name_or_path: m\n", "dataset_name: a required field"),
        ("loss_type: sigmoid\nmodel_name_or_path: m\ndataset_name: d\nbeta: high\n", "beta.*'high'.*a number"),
        ("loss_type: sigmoid\nmodel_name_or_path: m\ndataset_name: d\ngradient_accumulation_steps: 1.5\n", "a whole number"),
        ("loss_type: sigmoid\nmodel_name_or_path: [m]\ndataset_name: d\n", "model_name_or_path.*text"),
        ("loss_type: sigmoid\nmodel_name_or_path: m\ndataset_name: d\nuse_peft: 3\n", "use_peft.*true or false"),
    ],
)
def test_wrong_files_are_refused_with_field_and_value(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=said) as refused:
        import_config(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        import_config(tmp_path / "nowhere.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        import_config(tmp_path / "b.yaml")


def test_importing_loads_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, attune.config.importers; print('torch' in sys.modules)"], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
