"""A run over streamed data: the same training as over data in memory, its account, what it holds out, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from attune.core.errors import AttuneError, ConfigError, FormatError, TooManyBadRecords
from attune.core.record import Group
from attune.data.prepare import prepare
from attune.data.read import read
from attune.data.split import asked
from attune.data.write import write
from attune.recipes.dry import dry_run
from attune.recipes.run import run
from attune.runs.directory import RunDirectory
from attune.worlds.language import Built

FEW = ["train.groups_per_update=6", "optim.lr=1e-3", "optim.warmup=0", "data.streaming=true"]


@pytest.fixture(scope="module")
def prepared(world: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's 24 preferences, each prompt once."""
    path = tmp_path_factory.mktemp("prepared") / "groups.jsonl"
    prepare(world.preferences, path)
    return path


def go(world: Built, place: Path, data: Path, *overrides: str, resume: bool = False) -> RunDirectory:
    return run("dpo", [f"model.path={world.model}", f"data.train={data}", *FEW, *overrides], directory=place, quiet=True, resume=resume)


def numbers(place: RunDirectory) -> list[dict[str, Any]]:
    """The lines of metrics, less what the clock and the machine decide."""
    measured = ("seconds", "tokens_per_second", "time_", "peak_memory", "mfu")
    return [{key: value for key, value in line.items() if not key.startswith(measured)} for line in place.lines("metrics.jsonl")]


def test_streamed_training_is_training_in_memory(world: Built, prepared: Path, tmp_path: Path) -> None:
    """Bit for bit where nothing is computed before: SimPO over one epoch and a half; its weights too."""
    rest = ["objectives=[{name: simpo}]", "data.eval_share=0", "train.updates=6", "train.track_start=false"]
    streamed = go(world, tmp_path / "streamed", prepared, *rest)
    memory = go(world, tmp_path / "memory", prepared, *rest, "data.streaming=false")
    lines = [(a["loss"], a["grad_norm"], a["margin"]) for a in numbers(streamed)]
    assert len(lines) == 6 and lines == [(a["loss"], a["grad_norm"], a["margin"]) for a in numbers(memory)]
    ours, theirs = (load_file(place.model / "model.safetensors") for place in (streamed, memory))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    said, known = (place.read_json("data.json")["train"] for place in (streamed, memory))
    assert {key: said[key] for key in ("groups", "kept", "dropped", "responses", "records", "sources")} == {
        key: known[key] for key in ("groups", "kept", "dropped", "responses", "records", "sources")
    }
    assert said["streamed"] == 24 and "streamed" not in known


def test_a_reference_is_computed_in_each_update_and_starts_at_the_policy(world: Built, prepared: Path, tmp_path: Path) -> None:
    place = go(world, tmp_path, prepared, "data.eval_share=0.2", "train.updates=2")
    first = next(line for line in place.lines("metrics.jsonl") if line["split"] == "train")
    assert first["loss"] == pytest.approx(0.6931471805599453, abs=2e-5)
    assert first["chosen_logp_change"] == pytest.approx(0.0, abs=1e-3)
    assert not list((tmp_path / "cache").glob("**/*.safetensors"))


def test_what_is_held_out_is_not_trained_on(world: Built, prepared: Path, tmp_path: Path) -> None:
    """24 records: a fifth is 4, and 3 at most; a held-out prompt that stands elsewhere again is left out of training, and counted."""
    place = go(world, tmp_path / "some", prepared, "data.eval_share=0.2", "train.updates=4")
    said = place.read_json("data.json")
    assert (said["eval"]["groups"], said["train"]["streamed"], said["train"]["groups"]) == (4, 20, 20)
    place = go(world, tmp_path / "few", prepared, "data.eval_share=0.2", "data.eval_groups=3", "train.updates=1")
    assert place.read_json("data.json")["eval"]["groups"] == 3
    doubled = tmp_path / "doubled.jsonl"
    groups = list(read(prepared))
    write([*groups, *(Group(id=f"again-{one.id}", contexts=one.contexts, responses=one.responses, verdicts=one.verdicts) for one in groups)], doubled)
    place = go(world, tmp_path / "doubled", doubled, "data.eval_share=0.2", "train.epochs=1")
    said = place.read_json("data.json")
    num = said["eval"]["groups"]
    assert num == 9
    assert said["train"]["groups"] == 48 - num
    trained, held = said["train"]["reasons"]["group: its prompt is held out"], {asked(one) for one in groups}
    assert 0 < trained <= num and len(held) == 24
    assert said["train"]["kept"] == 48 - num - trained


def test_a_resumed_run_ends_as_one_that_never_stopped(world: Built, prepared: Path, tmp_path: Path) -> None:
    """Mid-epoch, with a tied group that is left out: metrics, account and weights to the last bit."""
    data = tmp_path / "groups.jsonl"
    lines = prepared.read_text("utf-8").splitlines()
    record = json.loads(lines[5])
    lines[5] = json.dumps({**record, "verdicts": []})
    data.write_text("\n".join(lines) + "\n", "utf-8")
    rest = ["train.updates=5", "train.save_every=2", "train.keep_last=3", "data.eval_share=0.1"]
    whole = go(world, tmp_path / "whole", data, *rest)
    shutil.copytree(whole.path, tmp_path / "cut")
    cut = RunDirectory(tmp_path / "cut")
    for name in ("checkpoints/update-000005", "checkpoints/update-000004", "model"):
        shutil.rmtree(cut / name)
    assert [path.name for path in cut.checkpoints.iterdir()] == ["update-000002"]
    for name in ("outcome.json", "data.json", "evals.json"):
        (cut / name).unlink()
    cut.write_json("provenance.json", {key: value for key, value in cut.read_json("provenance.json").items() if key != "ended"})
    go(world, cut.path, data, *rest, resume=True)
    assert numbers(cut) == numbers(whole)
    for name in ("data.json", "evals.json"):
        assert cut.read_json(name) == whole.read_json(name)
    assert list(cut.lines("intake.jsonl")) == list(whole.lines("intake.jsonl"))
    said = cut.read_json("data.json")["train"]
    assert (said["groups"], said["kept"], said["reasons"]["group: nothing left to train on"]) == (22, 21, 1)
    ours, theirs = (load_file(place.model / "model.safetensors") for place in (cut, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_mixture_takes_of_each_source_what_the_proportions_hold(world: Built, prepared: Path, tmp_path: Path) -> None:
    """24 groups with weight 3 and 10 with weight 1: 24 and 8 of them."""
    other = tmp_path / "other.jsonl"
    write(list(read(prepared))[:10], other)
    sources = f"data.train=[{{path: {prepared}, weight: 3}}, {{path: {other}, weight: 1}}]"
    place = run("dpo", [f"model.path={world.model}", sources, *FEW, "data.eval_share=0", "train.updates=1"], directory=tmp_path / "run", quiet=True)
    said = place.read_json("data.json")["train"]
    assert (said["records"], said["streamed"], said["reasons"]["group: left over when the mixture ended"]) == (34, 32, 2)
    with pytest.raises(ConfigError, match=r"train.shuffle=true"):
        run("dpo", [f"model.path={world.model}", sources, *FEW, "train.shuffle=false"], directory=tmp_path / "no", quiet=True)


def test_a_limit_counts_groups_of_each_source(world: Built, prepared: Path, tmp_path: Path) -> None:
    said = go(world, tmp_path, prepared, "data.limit=10", "data.eval_share=0", "train.updates=1").read_json("data.json")["train"]
    assert (said["records"], said["streamed"], said["reasons"]["group: beyond data.limit"]) == (24, 10, 14)


def test_the_doctor_says_that_it_saw_a_sample(world: Built, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.recipes.material.SAMPLE", 7)
    title = go(world, tmp_path, prepared, "data.eval_share=0", "train.updates=1").read_json("doctor.json")["title"]
    assert title == f"{prepared} (a sample of 7 of 24 records)"


def test_bad_records_are_told_and_too_many_of_them_stop_the_run(world: Built, prepared: Path, tmp_path: Path) -> None:
    data = tmp_path / "bad.jsonl"
    lines = prepared.read_text("utf-8").splitlines()
    lines[3] = lines[3][:-9]
    data.write_text("\n".join(lines) + "\n", "utf-8")
    said = go(world, tmp_path / "one", data, "data.eval_share=0", "train.epochs=1").read_json("data.json")
    assert said["train"]["kept"] == 23 and said["train"]["reasons"]["record: it cannot be read"] == 1
    assert len(said["rejected"]) == 1 and f"{data}:4: the line is not JSON" in said["rejected"][0]
    data.write_text("\n".join(lines * 10) + "\n", "utf-8")
    with pytest.raises(TooManyBadRecords, match="10 of the 240 records"):
        go(world, tmp_path / "many", data, "data.eval_share=0", "data.max_bad=0.04")


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["reference.cache=memory"], ConfigError, "data.streaming=true takes off"),
        (["data.streaming=false", "data.eval_groups=5"], ConfigError, "eval_groups limits"),
        (["objectives=[{name: kto}]", "data.signal=win_lose"], ConfigError, "max_prompt_tokens and max_response_tokens, together at most"),
        (["data.signal=thumbs"], ConfigError, "which the signal never makes|nothing is left"),
        (["data.annotators=[nobody]"], ConfigError, "nothing is left to train on"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(
    world: Built, prepared: Path, tmp_path: Path, overrides: Sequence[str], error: type[AttuneError], words: str
) -> None:
    with pytest.raises(error, match=words):
        go(world, tmp_path, prepared, *overrides)


def test_data_in_another_format_is_to_be_prepared(world: Built, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 5)
    with pytest.raises(FormatError, match="attune data prepare"):
        go(world, tmp_path / "run", tmp_path / "pairs.jsonl")
    with pytest.raises(ConfigError, match="attune data prepare"):
        go(world, tmp_path / "named", tmp_path / "pairs.jsonl", f"data.train=[{{path: {tmp_path / 'pairs.jsonl'}, format: trl_preference}}]")


def test_a_dry_run_counts_a_sample(world: Built, prepared: Path) -> None:
    said = dry_run("dpo", [f"model.path={world.model}", f"data.train={prepared}", *FEW], None)
    assert "24 records" in said and "a sample of" in said
