"""A run's files: written whole or not at all, read up to where a crash cut them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import RunError
from attune.runs.directory import RunDirectory, write_atomic


def torn(path: Path, lines: list[bytes]) -> RunDirectory:
    (path / "metrics.jsonl").write_bytes(b"".join(lines))
    return RunDirectory(path)


def test_numbers_and_text_come_back_as_they_were(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new" / "run")
    value = {"loss": 0.1, "tiny": 5e-324, "none": None, "text": "Größe\n東京", "list": [1, 2.5]}
    run.write_json("evals.json", value)
    run.append("samples.jsonl", [value])
    run.append("samples.jsonl", [{"second": True}, {"third": 3}])
    assert run.read_json("evals.json") == value
    assert list(run.lines("samples.jsonl")) == [value, {"second": True}, {"third": 3}]
    assert run.name == "run"


def test_what_is_not_there_reads_as_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_json("evals.json") is None
    assert list(run.lines("metrics.jsonl")) == []


def test_writing_does_not_create_the_directory_before_it_is_needed(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "run") / "x" == tmp_path / "run" / "x"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    write_atomic(path, "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(RunError, match=r"recipe\.yaml: cannot write: No space left on device"):
        write_atomic(path, "new and longer")
    assert path.read_text("utf-8") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["recipe.yaml"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    write_atomic(path, "old")

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text("utf-8") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_process_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomic(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from attune.runs.directory import write_atomic\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_atomic(Path({str(path)!r}), 'new' * 100000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -9
    assert path.read_text("utf-8") == "old"


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", "utf-8")
    run = RunDirectory(tmp_path / "taken")
    with pytest.raises(RunError, match=r"taken/evals\.json: cannot write"):
        run.write_json("evals.json", {})
    with pytest.raises(RunError, match=r"taken/metrics\.jsonl: cannot write"):
        run.append("metrics.jsonl", [{}])
    assert (tmp_path / "taken").read_text("utf-8") == "x"


@pytest.mark.parametrize("tail", [b'{"update": 2, "lo', b'{"update": 2, "note": "Gr\xc3', b'{"update": 2}'], ids=["number", "character", "newline"])
def test_a_torn_last_line_is_left_out(tail: bytes, tmp_path: Path) -> None:
    """Also where the cut falls inside a character, and where only the end of the line is missing."""
    run = torn(tmp_path, [b'{"update": 0}\n', '{"update": 1, "note": "ü"}\n'.encode(), tail])
    assert list(run.lines("metrics.jsonl")) == [{"update": 0}, {"update": 1, "note": "ü"}]


def test_a_broken_line_in_the_middle_is_not_skipped_silently(tmp_path: Path) -> None:
    run = torn(tmp_path, [b'{"update": 0}\n', b'{"upd\n', b'{"update": 2}\n'])
    with pytest.raises(RunError, match=r"metrics.jsonl:2: the line is not JSON"):
        list(run.lines("metrics.jsonl"))


def test_metrics_are_cut_back_to_an_update_to_the_last_digit(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    lines = [{"update": update, "split": split, "loss": 0.1 + update / 3} for update in range(4) for split in ("train", "eval")]
    run.append("metrics.jsonl", lines)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"update": 4, "spl')
    run.truncate("metrics.jsonl", 2)
    assert list(run.lines("metrics.jsonl")) == lines[:6]
    run.append("metrics.jsonl", lines[6:])
    assert list(run.lines("metrics.jsonl")) == lines
    run.truncate("metrics.jsonl", -1)
    assert (run / "metrics.jsonl").read_bytes() == b""


def test_only_a_directory_with_a_provenance_is_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run in this directory; allowed: .*provenance\.json"):
        RunDirectory.existing(tmp_path)
    RunDirectory(tmp_path).write_json("provenance.json", {})
    assert RunDirectory.existing(tmp_path).path == tmp_path


def test_a_chain_names_its_stages_in_order_and_a_single_run_is_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.stages == [run]
    run.write_json("stages.json", ["sft", "reward", "dpo"])
    assert [stage.path for stage in run.stages] == [tmp_path / "sft", tmp_path / "reward", tmp_path / "dpo"]
    assert run.stages[0].model == tmp_path / "sft" / "model"
    assert run.stages[0].checkpoints == tmp_path / "sft" / "checkpoints"
