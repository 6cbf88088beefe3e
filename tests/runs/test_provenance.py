"""Where a run came from, held against what git, the package index and hashing by hand say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

import attune
from attune.runs.provenance import file_hash, now, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def no_outer_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of git that runs the tests says where its own repository is; git would then work on that one."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


def test_a_hash_is_that_of_the_bytes_however_many_pieces(tmp_path: Path) -> None:
    """SHA-256 of "abc" is the example of FIPS 180-4; the other file is longer than a piece of a megabyte."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"abc")
    large.write_bytes(bytes(range(256)) * 5000)
    assert file_hash(small) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(large) == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()


def test_what_is_no_file_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data.jsonl"
    data.write_bytes(b"abc")
    monkeypatch.setattr(sys, "argv", ["attune", "run", "dpo"])
    said = provenance(seed=7, data=[str(data), "hub:org/name@train"], recipe_hash="0f")
    assert said["data"] == {str(data): file_hash(data), "hub:org/name@train": None}
    assert (said["seed"], said["recipe"], said["command"]) == (7, "0f", "attune run dpo")
    assert said["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert said["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_version_of_attune_is_known_where_it_is_installed(tmp_path: Path) -> None:
    assert provenance(seed=0, data=[], recipe_hash="")["versions"]["attune"] in (attune.__version__, None)


def test_there_is_no_commit_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance(seed=0, data=[], recipe_hash="")["commit"] is None


def test_there_is_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(seed=0, data=[], recipe_hash="")["commit"] is None


def test_a_commit_carries_a_plus_while_something_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    assert provenance(seed=0, data=[], recipe_hash="")["commit"] is None, "a repository without a commit"
    (tmp_path / "a.txt").write_text("a", "utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert provenance(seed=0, data=[], recipe_hash="")["commit"] == commit
    (tmp_path / "a.txt").write_text("b", "utf-8")
    assert provenance(seed=0, data=[], recipe_hash="")["commit"] == commit + "+"


def test_the_time_is_utc_to_the_second() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    said = datetime.fromisoformat(now())
    assert said.utcoffset() == timedelta(0)
    assert said.microsecond == 0
    assert before <= said <= datetime.now(UTC)
