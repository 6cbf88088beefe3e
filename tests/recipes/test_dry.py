"""A dry run counts what the real run then does, and its memory follows from the sizes of the model."""

from __future__ import annotations

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
    assert counted(said, r"updates: (\d+) of (\d+) groups") == (max(line["update"] for line in metrics), 8)
    assert 0 < data["train"]["responses"] < 4 * offered, "the limit refuses some"


@pytest.mark.parametrize(("reference", "held"), [(["reference.source=initial"], 0), (["reference.cache=off"], 1)])
def test_memory_follows_from_the_sizes(reference: list[str], held: int, world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes: four a weight, twice that for moments; a reference that is asked anew holds the weights again; gradients are part of the one pass."""
    monkeypatch.setattr(dry, "GIB", 1)
    said = dry_run("dpo", [f"model.path={world.model}", f"data.train={world.preferences}", "train.groups_per_update=4", *reference], None)
    with safe_open(world.model / "model.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys())]
    weights = 4 * sum(prod(shape) for shape in shapes)
    parts = memory(said)
    assert parts["weights"] == pytest.approx(weights, rel=0.01), "and the tables of positions"
    assert parts["optimiser"] == 2 * weights
    assert parts.get("reference", 0) == held * weights
    assert "gradients" not in parts
    assert parts["gradients and largest pass"] > weights


def test_the_passes_are_those_of_the_updates(world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several passes gradients stand by themselves, and no pass has more tokens than it was given."""
    monkeypatch.setattr(dry, "GIB", 1)
    overrides = [f"model.path={world.model}", f"data.train={world.preferences}", "train.groups_per_update=4", "train.tokens_per_pass=80"]
    said = dry_run("dpo", overrides, None)
    fewest, most, tokens = counted(said, r"passes: (\d+) to (\d+) an update, at most (\d+) tokens each")
    assert 2 <= fewest <= most
    assert tokens == 80
    largest, supervised = counted(said, r"largest pass: (\d+) tokens, (\d+) of them supervised")
    assert supervised < largest <= 80
    assert memory(said)["gradients"] * 2 == memory(said)["optimiser"]


def memory(said: str) -> dict[str, float]:
    (parts,) = re.findall(r"memory, about [\d.]+ GiB: (.*)", said)
    return {name: float(value) for name, value in re.findall(r"([a-z][a-z ]*) ([\d.]+)", parts)}


def test_an_adapter_needs_no_second_model(world: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 2: r (in + out) weights for each linear layer but the head; only these have gradients and moments."""
    monkeypatch.setattr(dry, "GIB", 1)
    said = dry_run("dpo", [f"model.path={world.model}", f"data.train={world.preferences}", "model.adapter.rank=2", "reference.cache=off"], None)
    with safe_open(world.model / "model.safetensors", framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys()) if name.endswith("_proj.weight")]
    parts = memory(said)
    assert parts["optimiser"] == 2 * 4 * sum(2 * sum(shape) for shape in shapes)
    assert "reference" not in parts


def test_a_chain_is_counted_stage_by_stage_from_the_models_there_are(world: Built, tmp_path: Path) -> None:
    overrides = [f"sft.model.path={world.model}", f"sft.data.train={world.demonstrations}", f"compare.evaluate.prompts={world.prompts}"]
    overrides += [f"{stage}.data.train={world.preferences}" for stage in ("reward", "dpo")]
    said = dry_run("chain", overrides, tmp_path / "run")
    assert re.findall(r"# stage (\w+)", said) == ["sft", "reward", "dpo", "compare"]
    assert re.findall(r"data: (\d+) records", said) == ["40", "24", "24"]
    assert "compares stage:dpo with stage:sft" in said
    assert not list(tmp_path.iterdir())
