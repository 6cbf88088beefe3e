"""What commands print and write when the input is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from attune.config.load import load_recipe
from attune.data.read import read
from attune.worlds.language import Built
from tests.cli.conftest import Attune


def feedback(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def pairs(num: int) -> list[str]:
    names = ("apple", "berry", "cherry", "date", "elder", "fig", "grape", "hazel")
    return [json.dumps({"prompt": f"Is {name} a fruit?", "chosen": f"Yes, {name} is.", "rejected": f"No, not {name}."}) for name in names[:num]]


@pytest.mark.parametrize(("broken", "code"), [(0, 0), (1, 1), (8, 2)])
def test_the_doctor_ends_with_0_1_or_2(broken: int, code: int, attune: Attune, tmp_path: Path) -> None:
    """Eight pairs; one broken line is a finding, and nothing but broken lines cannot be read."""
    data = feedback(tmp_path / "pairs.jsonl", pairs(8 - broken) + ["{oops"] * broken)
    result = attune("doctor", data)
    assert result.code == code
    assert (result.err == "") == (code < 2)
    assert ("Do not train on this yet" in result.out) == (code == 1)


def test_the_doctor_counts_in_json(attune: Attune, tmp_path: Path) -> None:
    data = feedback(tmp_path / "pairs.jsonl", [*pairs(7), "{oops"])
    result = attune("doctor", data, "--json")
    said = json.loads(result.out)
    assert said["exit_code"] == result.code == 1
    assert said["account"]["records"] == 8
    assert said["account"]["used"] == 7
    assert said["account"]["rejected"] == 1


def test_the_doctor_looks_at_tokens_where_there_is_a_model(attune: Attune, world: Built) -> None:
    """A limit of one token refuses all responses but the shortest; without a model nothing is said of tokens."""
    told = {limit: json.loads(attune("doctor", world.preferences, "--json", "--model", world.model, "--max-response-tokens", limit).out) for limit in (1, 1000)}
    refused = {limit: next(finding for finding in said["findings"] if finding["name"] == "refused")["level"] for limit, said in told.items()}
    assert refused == {1: "error", 1000: "ok"}
    names = {finding["name"] for finding in json.loads(attune("doctor", world.preferences, "--json").out)["findings"]}
    assert "refused" not in names


def test_an_imported_recipe_is_one_that_attune_reads(attune: Attune, tmp_path: Path) -> None:
    config = tmp_path / "trl.yaml"
    config.write_text("model_name_or_path: ./m\ndataset_name: d.jsonl\nbeta: 0.3\nlearning_rate: 2.0e-6\n", "utf-8")
    printed = attune("import", config, "--method", "dpo")
    written = attune("import", config, "--method", "dpo", "--out", tmp_path / "new" / "recipe.yaml")
    assert (printed.code, written.code) == (0, 0)
    assert written.out == f"{tmp_path / 'new' / 'recipe.yaml'}\n"
    assert yaml.safe_load(printed.out) == yaml.safe_load((tmp_path / "new" / "recipe.yaml").read_text("utf-8"))
    stage = load_recipe(tmp_path / "new" / "recipe.yaml").stages[0]
    assert stage.optim.lr == 2e-6
    assert stage.objectives[0].params["beta"] == 0.3
    assert printed.err == written.err
    assert all(line.startswith("note: ") for line in printed.err.splitlines())


@pytest.mark.parametrize("shard", [None, 2])
def test_prepare_joins_equal_prompts_of_all_files(shard: int | None, attune: Attune, tmp_path: Path) -> None:
    """Five prompts in one file, three of them again in the other: five groups, three joined."""
    one, two = feedback(tmp_path / "one.jsonl", pairs(5)), feedback(tmp_path / "two.jsonl", pairs(3))
    out = tmp_path / "out.parquet"
    result = attune("data", "prepare", one, two, "--out", out, *(["--shard", shard] if shard else []))
    assert result.code == 0
    assert result.out == "8 records: 8 used, 0 rejected, 0 doubtful; 8 groups, 3 of them joined to others, 5 left\n"
    files = [out] if shard is None else [tmp_path / f"out-0000{number}.parquet" for number in range(3)]
    assert sorted(tmp_path.glob("*.parquet")) == files
    groups = list(read(files))
    assert [len(group.verdicts) for group in groups] == [2, 2, 2, 1, 1]


def test_methods_lists_all_and_describes_one(attune: Attune) -> None:
    listed, told = attune("methods"), attune("methods", "dpo")
    assert (listed.code, told.code) == (0, 0)
    assert "\npairwise\n" in listed.out
    assert told.out.startswith("dpo  (pairwise)\n")
    assert "beta: float in (0, inf), default 0.1" in told.out


def test_a_dry_run_prints_a_recipe_that_can_be_run(attune: Attune, world: Built, tmp_path: Path) -> None:
    arguments = ["dpo", f"model.path={world.model}", f"data.train={world.preferences}", "optim.lr=3e-6"]
    result = attune("run", *arguments, "--dry-run", "--run-dir", "somewhere")
    assert result.code == 0
    assert "# run directory: somewhere\n" in result.out
    (tmp_path / "again.yaml").write_text(result.out, "utf-8")
    assert load_recipe(tmp_path / "again.yaml").stages[0].optim.lr == 3e-6
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]


def test_a_run_prints_its_report_and_the_report_can_be_written_again(attune: Attune, world: Built, tmp_path: Path) -> None:
    arguments = ["dpo", f"model.path={world.model}", f"data.train={world.preferences}", "train.updates=1", "train.groups_per_update=4"]
    done = attune("run", *arguments, "--quiet")
    assert (done.code, done.out, done.err) == (0, "runs/dpo/report.html\n", "")
    before = (tmp_path / "runs/dpo/report.html").read_text("utf-8")
    (tmp_path / "runs/dpo/report.html").unlink()
    again = attune("report", "runs/dpo")
    assert (again.code, again.out) == (0, "runs/dpo/report.html\n")
    assert (tmp_path / "runs/dpo/report.html").read_text("utf-8") == before
    assert attune("run", *arguments, "--quiet", "--resume").code == 0
