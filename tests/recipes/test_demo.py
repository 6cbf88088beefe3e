"""The demo's recipe, and the whole line on a handful of groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune.core.errors import RunError
from attune.core.record import text_of
from attune.data.read import read
from attune.recipes import demo as recipe
from attune.recipes.demo import demo, demo_recipe
from attune.runs.directory import RunDirectory
from attune.worlds.grammar import marks


@pytest.mark.parametrize("quick", [False, True])
def test_the_recipe_points_at_the_world_and_quick_cuts_the_updates(quick: bool, tmp_path: Path) -> None:
    made = demo_recipe(RunDirectory(tmp_path), seed=5, quick=quick)
    sft, reward, dpo = made.stages
    assert [stage.name for stage in made.stages] == ["sft", "reward", "dpo"]
    assert [stage.seed for stage in made.stages] == [5, 5, 5]
    assert sft.model.path == str(tmp_path / "world/model")
    assert {stage.model.path for stage in (reward, dpo)} == {"stage:sft"}
    assert [stage.data and stage.data.train[0].path for stage in made.stages] == [
        str(tmp_path / "world" / name) for name in ("demonstrations.jsonl", "preferences.jsonl", "preferences.jsonl")
    ]
    assert all((stage.train.updates == 2) == quick for stage in made.stages)
    assert (reward.model.head, dpo.model.head) == ("scalar", "lm")


def test_a_directory_with_a_run_in_it_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    RunDirectory(tmp_path).write_json("provenance.json", {"recipe": "another"})
    RunDirectory(tmp_path / "sft").append("metrics.jsonl", [{"update": 0}])
    with pytest.raises(RunError, match="holds a run"):
        demo(tmp_path, seed=0, quick=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["provenance.json", "sft"]


def test_the_whole_line_ends_in_a_report_with_exact_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "QUICK", 8)
    assert demo(tmp_path, seed=0, quick=True) == tmp_path / "report.html"
    place = RunDirectory(tmp_path)
    assert [stage.name for stage in place.stages] == ["sft", "reward", "dpo", "compare"]
    preferences = list(read(tmp_path / "world/preferences.jsonl"))
    assert [len(group.responses) for group in preferences] == [4] * 8
    assert {verdict.annotator for group in preferences for verdict in group.verdicts} == {"ada", "ben", "cleo"}
    compared = RunDirectory(tmp_path / "compare")
    evals, samples = compared.read_json("evals.json"), list(compared.lines("samples.jsonl"))
    for name in ("start", "trained"):
        exact = [marks(text_of(sample["prompt"]), response["text"]) for sample in samples for response in sample["responses"] if response["name"] == name]
        assert len(exact) == 8
        assert evals[f"gold_reward_{name}"]["value"] == pytest.approx(sum(exact) / 8)
    assert "ended" in place.read_json("provenance.json")


def test_a_second_demo_takes_the_next_free_directory(tmp_path: Path) -> None:
    assert recipe._free(tmp_path) == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert recipe._free(tmp_path) == tmp_path / "demo-3"
