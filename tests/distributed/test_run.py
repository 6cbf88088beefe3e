"""A recipe under torchrun: one directory, written by the first process, with the model and the numbers of a run of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from attune.recipes.run import run
from attune.runs.directory import RunDirectory
from attune.training.distributed import World
from attune.training.stopwatch import TIMED
from attune.worlds.language import Built
from tests.distributed.ranks import on_ranks
from tests.distributed.setting import difference
from tests.recipes.conftest import world

__all__ = ["world"]

BY_COMPANY = {"computed_tokens", "model_flops", "accuracy"}
"""What depends on which rows are computed together: how much is, and at the start on which side of 0 the rounding of a margin falls."""


@pytest.mark.parametrize(("parallel", "adapter"), [("data", []), ("fsdp", ["model.adapter.rank=2"])])
def test_a_recipe_of_two_ranks_leaves_what_one_process_leaves(parallel: str, adapter: list[str], world: Built, tmp_path: Path) -> None:
    overrides = [f"model.path={world.model}", f"data.train={world.preferences}", "model.dtype=float64", f"train.parallel={parallel}", *adapter]
    overrides += ["train.updates=2", "train.groups_per_update=3", "train.save_every=1", "train.keep_last=1", "data.eval_share=0.2"]

    def work(ranks: World) -> bool:
        return run("dpo", overrides, directory=tmp_path / "two", quiet=True).writes

    assert on_ranks(tmp_path / "ranks", work) == [True, False]
    one, two = run("dpo", overrides, directory=tmp_path / "one", quiet=True), RunDirectory(tmp_path / "two")
    assert files(one) == files(two)
    assert difference(load_file(two.model / "model.safetensors"), load_file(one.model / "model.safetensors")) < 1e-6
    for line, wanted in zip(two.lines("metrics.jsonl"), one.lines("metrics.jsonl"), strict=True):
        assert line.keys() == wanted.keys()
        numbers = {name for name in wanted.keys() - TIMED - BY_COMPANY if isinstance(wanted[name], float)}
        assert {name: line[name] for name in numbers} == pytest.approx({name: wanted[name] for name in numbers}, rel=1e-6, abs=1e-9)
    assert two.read_json("evals.json").keys() == one.read_json("evals.json").keys()
    assert on_ranks(tmp_path / "ranks", lambda ranks: run("dpo", overrides, directory=two.path, resume=True, quiet=True).writes) == [True, False]


def files(place: RunDirectory) -> set[str]:
    """Returns the files of a run but for its checkpoints', of which each rank writes its own."""
    found: Any = (Path(folder, name).relative_to(place.path) for folder, _, names in os.walk(place.path) for name in names)
    return {str(path) for path in found if "checkpoints" not in path.parts}
