"""Two ranks over one stream: each reads its share, and the account is that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attune.core.record import Group, Verdict
from attune.data.write import write
from attune.recipes.run import run
from attune.runs.directory import RunDirectory
from attune.training.distributed import World
from tests import tiny
from tests.distributed.ranks import on_ranks


def test_two_ranks_over_one_stream(tmp_path: Path) -> None:
    """Five updates of five groups over 22 records, one of them bad, one without a verdict: weights, numbers and account of one process.

    GPT-2, every layer of which computes in the float64 of its weights.
    """
    policy = tiny.policy("gpt2", dtype=torch.float64)
    policy.save(str(tmp_path / "model"))
    verdicts = [(Verdict(tiers=((number % 2,), (1 - number % 2,))),) for number in range(22)]
    verdicts[9] = ()
    groups = [Group(id=one.id, contexts=one.contexts, responses=one.responses, verdicts=said) for one, said in zip(tiny.groups(22, 2), verdicts, strict=True)]
    write(groups, tmp_path / "groups.jsonl")
    lines = (tmp_path / "groups.jsonl").read_text("utf-8").splitlines()
    lines[4] = lines[4][:-7]
    (tmp_path / "groups.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    settings = [f"model.path={tmp_path / 'model'}", f"data.train={tmp_path / 'groups.jsonl'}", "data.streaming=true", "model.dtype=float64"]
    settings += ["data.eval_share=0.1", "train.groups_per_update=5", "train.updates=5", "optim.lr=1e-3", "optim.warmup=0", "data.max_bad=0.2"]

    def work(one: World) -> int:
        return int(run("dpo", settings, directory=tmp_path / "two", quiet=True).path.is_dir()) + one.size

    assert on_ranks(tmp_path / "ranks", work) == [3, 3]
    run("dpo", settings, directory=tmp_path / "one", quiet=True)
    one, two = (RunDirectory(tmp_path / name) for name in ("one", "two"))
    for ours, theirs in zip(two.lines("metrics.jsonl"), one.lines("metrics.jsonl"), strict=True):
        for name in ("loss", "margin", "accuracy", "supervised_tokens"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-9), (ours["update"], name)
    weights, alone = (load_file(place.model / "model.safetensors") for place in (two, one))
    assert all(torch.allclose(weights[name], alone[name], rtol=1e-6, atol=1e-9) for name in alone)
    said, known = (place.read_json("data.json") for place in (two, one))
    assert {**said["train"], "ids": 0} == {**known["train"], "ids": 0}
    assert {reason: set(ids) for reason, ids in said["train"]["ids"].items()} == {reason: set(ids) for reason, ids in known["train"]["ids"].items()}
    assert said["rejected"] == known["rejected"] and said["train"]["reasons"]["record: it cannot be read"] == 1
    assert said["train"]["groups"] == 20
