"""A dry run counts what the real run then does, and its memory follows from the sizes of the model."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path

import pytest
from safetensors import safe_open

from attune.recipes import dry
from attune.recipes.dry import dry_run
from attune.recipes.run import run
from attune.worlds.language import Built


def counted(said: str, pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, said)
    assert found, said
    return tuple(map(int, found.groups()))


def test_counts_are_those_of_the_run(world: Built, tmp_path: Path) -> None:
    """With a limit that refuses some of the responses, so that groups and pairs are left out."""
    overrides = [f"model.path={world.model}", f"data.train={world.preferences}", "train.groups_per_update=8", "train.epochs=1.5"]
    overrides += ["model.max_response_tokens=12", "data.eval_share=0.2"]
    said = dry_run("dpo", overrides, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    done = run("dpo", overrides, directory=tmp_path / "run", quiet=True)
    data, metrics = done.read_json("data.json"), list(done.lines("metrics.jsonl"))
    records, offered, used, left_out = counted(said, r"data: (\d+) records, (\d+) groups for training, (\d+) of them used, (\d+) left out")
    assert (records, offered, used, left_out) == tuple(data["train"][name] for name in ("records", "groups", "kept", "dropped"))
    assert counted(said, r"held out: (\d+) groups") == (data["eval"]["kept"],)
    assert counted(said, r"signal: (\d+) responses, \d+ pairs") == (data["train"]["responses"],)
    assert counted(said, r"updates: (\d+) of (\d+) groups \((\d+) a pass\)") == (max(line["update"] for line in metrics), 8, 8)
    assert 0 < data["train"]["responses"] < 4 * offered, "the limit refuses some"


@pytest.mark.parametrize("cache", ["memory", "off"])
def test_memory_follows_from_the_sizes(cache: str, world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes: four a weight, three times that for gradients and moments, the scores of the vocabulary twice; a reference that is asked anew, again."""
    monkeypatch.setattr(dry, "GIB", 1)
    overrides = [f"model.path={world.model}", f"data.train={world.preferences}", "train.groups_per_update=4", f"reference.cache={cache}"]
    said = dry_run("dpo", overrides, None)
    with safe_open(world.model / "model.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys())]
    weights = 4 * sum(prod(shape) for shape in shapes)
    config = json.loads((world.model / "config.json").read_text("utf-8"))
    tokens, supervised = counted(said, r"largest pass: (\d+) tokens, (\d+) of them supervised")
    parts = {name: float(value) for name, value in re.findall(r"(weights|gradients and moments|reference|head) ([\d.]+)", said)}
    reference = weights if cache == "off" else 0
    assert parts == {"weights": weights, "gradients and moments": 3 * weights, "reference": reference, "head": 2 * supervised * config["vocab_size"] * 4}
    (activations,) = (float(value) for value in re.findall(r"activations of the largest pass ([\d.]+)", said))
    least = tokens * config["num_hidden_layers"] * 34 * config["hidden_size"] * 2
    assert least < activations < 3 * least, "34 bytes a token, layer and channel at 2 bytes a number, twice that at 4, and the attention's part"


def test_an_adapter_needs_no_second_model(world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 2: r (in + out) weights for each linear layer but the head; only these have gradients and moments."""
    monkeypatch.setattr(dry, "GIB", 1)
    said = dry_run("dpo", [f"model.path={world.model}", f"data.train={world.preferences}", "model.adapter.rank=2", "reference.cache=off"], None)
    with safe_open(world.model / "model.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys()) if name.endswith("_proj.weight")]
    parts = {name: float(value) for name, value in re.findall(r"(gradients and moments|reference) ([\d.]+)", said)}
    assert parts == {"gradients and moments": 3 * 4 * sum(2 * sum(shape) for shape in shapes), "reference": 0.0}


def test_a_chain_is_counted_stage_by_stage_from_the_models_there_are(world: Built, tmp_path: Path) -> None:
    overrides = [f"sft.model.path={world.model}", f"sft.data.train={world.demonstrations}", f"compare.evaluate.prompts={world.prompts}"]
    overrides += [f"{stage}.data.train={world.preferences}" for stage in ("reward", "dpo")]
    said = dry_run("chain", overrides, tmp_path / "run")
    assert re.findall(r"# stage (\w+)", said) == ["sft", "reward", "dpo", "compare"]
    assert re.findall(r"data: (\d+) records", said) == ["40", "24", "24"]
    assert "compares stage:dpo with stage:sft" in said
    assert not list(tmp_path.iterdir())
