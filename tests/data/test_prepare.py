"""Preparing: equal prompts are joined across files, in the order of their first appearance, through any number of buckets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attune.core.errors import FormatError, TooManyBadRecords
from attune.data.group import merge
from attune.data.prepare import prepare
from attune.data.read import read


def shards(folder: Path) -> list[Path]:
    """Two files of pairs over eleven prompts, and a third in another format over the same prompts."""
    rows = [{"prompt": f"Q{number * 7 % 11}", "chosen": f"good {number % 4}", "rejected": f"bad {number % 3}"} for number in range(60)]
    thumbs = [{"prompt": f"Q{number % 13}", "completion": f"good {number % 4}", "label": number % 2 == 0} for number in range(20)]
    paths = [folder / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for path, part in zip(paths, (rows[:25], rows[25:], thumbs), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
    return paths


@pytest.mark.parametrize("buckets", [1, 7])
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_buckets_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int, name: str) -> None:
    paths = shards(tmp_path)
    size = sum(path.stat().st_size for path in paths)
    monkeypatch.setattr("attune.data.prepare._BUCKET", -(-size // buckets))
    account = prepare(paths, tmp_path / "made" / name)
    expected = merge(group for path in paths for group in read(path, group_equal=False))
    assert list(read(tmp_path / "made" / name)) == expected
    assert len(expected) == 13
    assert (account.records, account.parsed, account.groups, account.merged) == (80, 80, 13, 67)
    assert account.balanced
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]


def test_shards_are_numbered_and_hold_what_one_file_holds(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    prepare(paths, tmp_path / "one.jsonl")
    prepare(paths, tmp_path / "made" / "part.jsonl", shard=5)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    assert list(read(tmp_path / "made")) == list(read(tmp_path / "one.jsonl"))
    assert [len(list(read(path))) for path in sorted((tmp_path / "made").iterdir())] == [5, 5, 3]


def test_preparing_what_was_prepared_changes_nothing(tmp_path: Path) -> None:
    prepare(shards(tmp_path), tmp_path / "one.jsonl")
    prepare(tmp_path / "one.jsonl", tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_bad_records_are_accounted_and_too_many_leave_nothing(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    with open(paths[0], "a") as stream:
        stream.write("{\n" * 3)
    account = prepare(paths, tmp_path / "made" / "out.jsonl")
    assert (account.records, account.used, [one.line for one in account.rejects]) == (83, 80, [26, 27, 28])
    with pytest.raises(TooManyBadRecords):
        prepare(paths, tmp_path / "none" / "out.jsonl", max_bad=0.01)
    assert list((tmp_path / "none").iterdir()) == []


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="names that end in"):
        prepare(shards(tmp_path), tmp_path / "out.csv")
    with pytest.raises(FormatError, match="shard"):
        prepare(shards(tmp_path), tmp_path / "out.jsonl", shard=0)
