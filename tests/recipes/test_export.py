"""What is exported is what was trained, for whoever loads it without attune; and the card says no more than the run knows."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from attune.cli.main import app
from attune.core.errors import AttuneError, ConfigError, RunError
from attune.policies.causal import load
from attune.recipes.export import export, look_at
from attune.recipes.run import run
from attune.runs.directory import RunDirectory, write_atomic
from attune.runs.provenance import provenance
from attune.worlds.language import Built
from tests import tiny

FEW = ["train.updates=2", "train.groups_per_update=6", "optim.lr=1e-2", "optim.warmup=0"]


@pytest.fixture(scope="module")
def trained(world: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA run of two updates."""
    place = tmp_path_factory.mktemp("runs") / "lora"
    sources = [f"model.path={world.model}", f"data.train={world.preferences}"]
    run("dpo", [*sources, *FEW, "model.adapter.rank=4"], directory=place, quiet=True)
    return place


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([ids])).logits
    return found


def front(folder: Path) -> dict[str, Any]:
    """The YAML at the top of a card, as a hub reads it."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict() == yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    return dict(card.data.to_dict())


def test_a_merged_export_is_the_trained_model(trained: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    said = export(trained, tmp_path / "plain")
    assert said.splitlines()[-1] == str(tmp_path / "plain")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "plain"), AutoTokenizer.from_pretrained(tmp_path / "plain")
    policy = load(str(trained / "adapter"))
    chat = [{"role": "user", "content": "Größe? 😀"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert ids == policy.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert torch.allclose(logits(model, ids), logits(policy.module, ids), atol=1e-5)
    with policy.module.disable_adapter():
        assert (logits(model, ids) - logits(policy.module, ids)).abs().max() > 1e-4
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == sorted(
        ["README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    )


def test_generation_stops_where_training_said_a_reply_ends(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "plain")
    policy = load(str(trained / "model"))
    said = json.loads((tmp_path / "plain" / "generation_config.json").read_text())
    assert said["eos_token_id"] == list(policy.template.stop_ids)
    assert said["pad_token_id"] == policy.tokenizer.pad_token_id and said["bos_token_id"] == policy.tokenizer.bos_token_id


def test_weights_in_16_bits_are_those_rounded(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    export(trained, tmp_path / "full")
    export(trained, tmp_path / "half", dtype="bfloat16")
    full, half = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "half"))
    assert full.keys() == half.keys() and all(torch.equal(half[name], full[name].bfloat16()) for name in full)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    export(tmp_path / "half", tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(half[name], again[name]) for name in half)


def test_readers_of_older_files_find_what_they_look_for(tmp_path: Path) -> None:
    """transformers 4 knows no TokenizersBackend, and without rope_theta at the top it takes 10,000: logits of this model would be off by 5."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    config, tokenizer = tiny.config("llama"), tiny.tokenizer(chat="chatml")
    scaling = {"rope_type": "linear", "factor": 2.0}
    config.rope_parameters = {"rope_theta": 1e6, **scaling}
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "made")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.save_pretrained(tmp_path / "made")
    export(tmp_path / "made", tmp_path / "out")
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (said["rope_theta"], said["rope_scaling"]) == (1e6, scaling) and said["rope_parameters"]["rope_theta"] == 1e6
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast" and said["additional_special_tokens"] == ["<|im_start|>"]
    again, read = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("Größe <|im_start|> don't 12 😀").input_ids
    assert read("Größe <|im_start|> don't 12 😀").input_ids == ids
    assert torch.equal(logits(again, ids), logits(model, ids))


def test_an_adapter_goes_onto_its_base(trained: Path, world: Built, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    said = export(trained, tmp_path / "adapter", form="adapter")
    assert "local folder" in said and "--base" in said
    base = AutoModelForCausalLM.from_pretrained(world.model)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = AutoTokenizer.from_pretrained(tmp_path / "adapter")("hello there").input_ids
    policy = load(str(trained / "adapter"))
    assert torch.equal(logits(model, ids), logits(policy.module, ids))
    named = export(trained, tmp_path / "named", form="adapter", base="someone/model", dtype="bfloat16")
    assert named == str(tmp_path / "named")
    assert json.loads((tmp_path / "named" / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/model"
    assert front(tmp_path / "named")["base_model"] == "someone/model" and front(tmp_path / "named")["library_name"] == "peft"


def test_merging_an_adapters_folder_equals_the_runs_own_model(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    export(trained / "adapter", tmp_path / "merged")
    ours, theirs = load_file(tmp_path / "merged" / "model.safetensors"), load_file(trained / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.allclose(ours[name], theirs[name], atol=1e-7) for name in ours)


def test_a_value_head_stays_at_home(tmp_path: Path) -> None:
    """Who reads every safetensors file of a directory would find weights of no layer."""
    from attune.policies.heads import VALUE_FILE, add_value_head

    policy = tiny.policy()
    add_value_head(policy.model)
    policy.save(str(tmp_path / "trained"))
    assert (tmp_path / "trained" / VALUE_FILE).is_file()
    export(tmp_path / "trained", tmp_path / "plain")
    assert [path.name for path in (tmp_path / "plain").glob("*.safetensors")] == ["model.safetensors"]


def test_a_reward_model_scores_as_it_did(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    policy = tiny.policy(head="scalar")
    policy.save(str(tmp_path / "reward"))
    export(tmp_path / "reward", tmp_path / "plain")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain").eval()
    assert torch.allclose(logits(model, [3, 5, 8]), logits(policy.module, [3, 5, 8]), atol=1e-6)
    assert front(tmp_path / "plain")["pipeline_tag"] == "text-classification"
    assert "not known" in (tmp_path / "plain" / "README.md").read_text("utf-8")


def test_the_card_says_what_the_run_knows(trained: Path, world: Built, tmp_path: Path) -> None:
    export(trained, tmp_path / "named", base="someone/model", license="apache-2.0")
    export(trained, tmp_path / "bare")
    data = front(tmp_path / "named")
    assert data == {
        "library_name": "transformers",
        "base_model": "someone/model",
        "base_model_relation": "finetune",
        "pipeline_tag": "text-generation",
        "tags": ["attune", "dpo"],
        "license": "apache-2.0",
    }
    bare = front(tmp_path / "bare")
    assert bare["license"] == "unknown" and "base_model" not in bare
    text = (tmp_path / "bare" / "README.md").read_text("utf-8")
    run = RunDirectory(trained)
    said, evals = run.read_json("data.json")["train"], run.read_json("evals.json")
    assert f"Trained on {said['kept']} groups with {said['responses']} responses" in text
    assert run.read_json("provenance.json")["data"][str(world.preferences)] in text
    for held in evals.values():
        assert held["title"] in text and f"{held['low']:.3f} to {held['high']:.3f}" in text
    for words in (
        "Direct Preference Optimization",
        "2305.18290",
        "beta = 0.1",
        "| `optim.lr` | 0.01 |",
        "| `model.adapter.rank` | 4 |",
        "2 updates",
        "Not stated",
    ):
        assert words in text, words
    assert str(trained.parent) not in text and str(world.model) not in text


def test_streamed_data_of_a_hub_and_a_chain_are_told(tmp_path: Path, trained: Path) -> None:
    """A stage of a chain: its base is where the chain began, comparisons of its model count, what was only partly met is said."""
    chain = RunDirectory(tmp_path / "chain")
    copytree(trained, chain / "dpo")
    recipe = yaml.safe_load((chain / "dpo" / "recipe.yaml").read_text())
    stage = recipe["stages"][0] if "stages" in recipe else recipe
    stage["data"]["train"] = [{"path": "hub:org/set:config@train"}, {"path": "hub:org/set@test"}]
    for name, changed in (
        ("sft", {**stage, "model": {"path": "org/base"}}),
        ("dpo", {**stage, "model": {"path": "stage:sft"}}),
        ("compare", {"model": {"path": "stage:dpo"}, "evaluate": {}}),
    ):
        write_atomic(chain / name / "recipe.yaml", yaml.safe_dump(changed))
    stage_run = RunDirectory(chain / "dpo")
    data = stage_run.read_json("data.json")
    stage_run.write_json("data.json", {**data, "train": {**data["train"], "records": 1_000_000, "streamed": 999_500}})
    compared = {"title": "win rate over the start", "value": 0.625, "low": 0.51, "high": 0.73, "num": 80, "unit": "share"}
    RunDirectory(chain / "compare").write_json("evals.json", {"win_rate": compared})
    chain.write_json("stages.json", ["sft", "dpo", "compare"])
    chain.write_json("provenance.json", {**stage_run.read_json("provenance.json"), "models": {"org/base": "hub"}})
    export(chain.path, tmp_path / "out")
    assert front(tmp_path / "out")["base_model"] == "org/base"
    assert front(tmp_path / "out")["datasets"] == ["org/set"]
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| win rate over the start (share) | 0.625 | 95%: 0.510 to 0.730" in text
    assert "of 1,000,000 in all" in text


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(trained: Path, world: Built, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    unfinished = RunDirectory(tmp_path / "unfinished")
    unfinished.write_json("provenance.json", {})
    for error, words, source, options in (
        (RunError, "something already", trained, {"to": tmp_path / "taken"}),
        (ConfigError, "no adapter", world.model, {"form": "adapter"}),
        (ConfigError, "float32, bfloat16", trained, {"dtype": "int8"}),
        (RunError, "no trained model", unfinished.path, {}),
        (AttuneError, "no folder with a model", tmp_path / "nowhere", {}),
    ):
        with pytest.raises(error, match=words):
            export(source, options.pop("to", tmp_path / "out"), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "unfinished"]


def test_of_a_chain_that_was_interrupted_no_earlier_stage_is_exported(tmp_path: Path, trained: Path) -> None:
    """Neither once the last stage that trains has begun, nor before; a stage that only compares does not count."""
    chain = RunDirectory(tmp_path / "chain")
    copytree(trained, chain / "sft")
    chain.write_json("stages.json", ["sft", "dpo", "compare"])
    chain.write_json("provenance.json", {})
    (stage,) = yaml.safe_load((trained / "recipe.yaml").read_text("utf-8"))["stages"]
    stages = [{**stage, "name": name, "objectives": stage["objectives"] if name != "compare" else []} for name in ("sft", "dpo", "compare")]
    for number in (0, 2):
        chain.write_text(f"{stages[number]['name']}/recipe.yaml", yaml.safe_dump(stages[number]))
    chain.write_text("recipe.yaml", yaml.safe_dump({"stages": stages}))
    with pytest.raises(RunError, match=r"chain/dpo.*no trained model.*--resume"):
        export(chain.path, tmp_path / "out")
    (chain / "recipe.yaml").unlink()
    dpo = RunDirectory(chain / "dpo")
    dpo.write_text("recipe.yaml", yaml.safe_dump(stages[1]))
    copytree(trained / "model", dpo.model)
    with pytest.raises(RunError, match=r"chain/dpo.*no trained model.*--resume"):
        export(chain.path, tmp_path / "out")
    dpo.write_json("outcome.json", {"updates": 2})
    export(chain.path, tmp_path / "out")
    export(chain / "sft", tmp_path / "first")


def test_a_base_is_named_only_where_the_run_saw_that_it_is_no_folder(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """models/base is a folder where the run was started and a hub's OWNER/NAME by its looks: the card is written elsewhere."""
    (tmp_path / "start" / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "start")
    seen = provenance(seed=0, data=[], recipe_hash="", models=["models/base", "org/base"])["models"]
    assert seen == {"models/base": "folder", "org/base": "hub"}
    monkeypatch.chdir(tmp_path)
    place = RunDirectory(copytree(trained, tmp_path / "run"))
    recipe = yaml.safe_load((place / "recipe.yaml").read_text("utf-8"))
    for number, (path, known, named, words) in enumerate(
        (
            ("models/base", seen, None, "from a local folder called `base`."),
            ("org/base", seen, "org/base", "from `org/base`."),
            ("org/base", {}, None, "from a model called `base`."),
        )
    ):
        recipe["stages"][0]["model"]["path"] = path
        place.write_text("recipe.yaml", yaml.safe_dump(recipe))
        place.write_json("provenance.json", {**place.read_json("provenance.json"), "models": known})
        export(place.path, tmp_path / f"out{number}")
        assert front(tmp_path / f"out{number}").get("base_model") == named
        text = (tmp_path / f"out{number}" / "README.md").read_text("utf-8")
        assert words in text and "models/base" not in text


def test_no_path_of_data_and_no_setting_of_nothing_is_in_the_card(tmp_path: Path, trained: Path) -> None:
    place = RunDirectory(copytree(trained, tmp_path / "run"))
    data = place.read_json("data.json")
    held = {**data["train"], "sources": ["held out by prompt"]}
    place.write_json("data.json", {**data, "train": {**data["train"], "sources": ["/home/ada/my secret plans/pairs.jsonl"]}, "eval": held})
    export(place.path, tmp_path / "dpo")
    text = (tmp_path / "dpo" / "README.md").read_text("utf-8")
    assert "  - `pairs.jsonl`" in text and "  - held out by prompt" in text and "secret" not in text
    assert "| `reference.source` | auto |" in text
    recipe = yaml.safe_load((place / "recipe.yaml").read_text("utf-8"))
    recipe["stages"][0]["objectives"] = [{"name": "sft", "weight": 1.0, "params": {}}]
    place.write_text("recipe.yaml", yaml.safe_dump(recipe))
    export(place.path, tmp_path / "sft")
    assert "reference.source" not in (tmp_path / "sft" / "README.md").read_text("utf-8"), "it reads none"


OWN = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_its_own_runs_when_it_is_allowed(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    policy, place = tiny.policy("llama"), tmp_path / "coded"
    policy.save(str(place))
    (place / "own.py").write_text(OWN, "utf-8")
    config = json.loads((place / "config.json").read_text("utf-8"))
    named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (place / "config.json").write_text(json.dumps({**config, "model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": named}), "utf-8")
    with pytest.raises(AttuneError, match="trust_remote_code"):
        export(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "comes with code of its own" in export(place, tmp_path / "out", trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    assert torch.equal(logits(model, [3, 5, 8]), logits(policy.module, [3, 5, 8]))


def test_a_run_from_a_relative_folder_names_no_base(tmp_path: Path, world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "start" / "models").mkdir(parents=True)
    copytree(world.model, tmp_path / "start" / "models" / "base")
    monkeypatch.chdir(tmp_path / "start")
    run("dpo", ["model.path=models/base", f"data.train={world.preferences}", *FEW], directory=tmp_path / "run", quiet=True)
    monkeypatch.chdir(tmp_path)
    export(tmp_path / "run", tmp_path / "out")
    assert "base_model" not in front(tmp_path / "out")
    assert "from a local folder called `base`." in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_folder_that_is_not_there_is_not_looked_for_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["export", "./runs/dpoo", "--to", "out"])
    assert isinstance(said.exception, AttuneError)
    assert "no folder with a model (got './runs/dpoo')" in str(said.exception)


def test_a_shard_that_lacks_and_a_stop_token_that_lacks_are_found(tmp_path: Path) -> None:
    policy = tiny.policy()
    policy.module.save_pretrained(tmp_path, max_shard_size="20KB")
    policy.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1]}')
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert look_at(tmp_path) == []
    (tmp_path / "generation_config.json").write_text("{}")
    with pytest.raises(RunError, match="no stop token"):
        look_at(tmp_path)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(RunError, match="not whole"):
        look_at(tmp_path)


def test_what_others_stumble_over_is_said(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "adapter", form="adapter", base="someone/model")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "r": 48, "modules_to_save": ["score"]}))
    (tmp_path / "adapter" / "chat_template.jinja").unlink()
    said = "\n".join(look_at(tmp_path / "adapter"))
    assert "needs --max-lora-rank 64" in said and "score" in said and "no chat template" in said
    export(trained, tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    assert "trust_remote_code" in "\n".join(look_at(tmp_path / "plain"))
