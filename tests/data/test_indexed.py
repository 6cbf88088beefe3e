"""Records by number: the same groups as a reading, in constant memory, from a file that is never held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attune.core.errors import FormatError
from attune.core.record import Group, Prompt, Response, Verdict
from attune.data import indexed
from attune.data.account import Finding
from attune.data.indexed import Indexed, Together
from attune.data.read import read
from attune.data.write import write


def groups(num: int, name: str = "g") -> list[Group]:
    """Groups whose lines have different lengths, with characters of one to four bytes."""
    texts = ["a", "größe", "東京", "😀" * 3]
    return [
        Group(
            id=f"{name}{number}",
            contexts={"main": Prompt(content=f"{name} question {number}: {texts[number % 4] * (number % 7)}")},
            responses=(Response(content=f"yes {number}"), Response(content="no")),
            verdicts=(Verdict(tiers=((0,), (1,))),),
        )
        for number in range(num)
    ]


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_records_are_those_of_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Also where a line ends at, before or behind the end of a scanned piece."""
    monkeypatch.setattr(indexed, "_PIECE", piece)
    made = groups(40)
    write(made, tmp_path / "a.jsonl")
    found = Indexed(tmp_path / "a.jsonl")
    assert len(found) == 40
    assert [found.read(number) for number in range(40)] == made == list(read(tmp_path / "a.jsonl"))
    assert found.read(31) == made[31]


@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n", "\n" * 9])
def test_what_stands_behind_the_last_record_is_no_record(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.jsonl"
    write(groups(3), path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip() + end.encode())
    found = Indexed(path)
    assert [found.read(number) for number in range(len(found))] == groups(3)


def test_shards_follow_each_other_and_parts_are_cut(tmp_path: Path) -> None:
    for name, num in (("a", 5), ("b", 1), ("c", 4)):
        write(groups(num, name), tmp_path / "shards" / f"{name}.jsonl")
    write(groups(6, "d"), tmp_path / "d.jsonl")
    shards = Indexed(tmp_path / "shards")
    assert [getattr(shards.read(number), "id", None) for number in range(10)] == ["a0", "a1", "a2", "a3", "a4", "b0", "c0", "c1", "c2", "c3"]
    both = Together([(shards, 6), (Indexed(tmp_path / "d.jsonl", id_prefix="1/"), 2)])
    said = [both.read(number) for number in range(len(both))]
    assert [one.id for one in said if isinstance(one, Group)] == ["a0", "a1", "a2", "a3", "a4", "b0", "1/d0", "1/d1"]


def test_a_bad_record_is_a_finding_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(groups(5), path)
    lines = path.read_text("utf-8").splitlines()
    lines[1], lines[2], lines[3] = "", '{"attune": 1, "id": "x", "contexts": ', '{"attune":1,"id":"y","contexts":{"main":{"content":""}}}'
    path.write_text("\n".join(lines) + "\n", "utf-8")
    found = [Indexed(path).read(number) for number in range(5)]
    assert [isinstance(one, Group) for one in found] == [True, False, False, False, True]
    said = [one for one in found if isinstance(one, Finding)]
    assert [(one.line, one.id) for one in said] == [(2, None), (3, None), (4, "y")]
    assert "blank" in said[0].reason and "not JSON" in said[1].reason and said[2].field == "contexts.main.content"


def test_an_index_is_kept_by_what_it_indexes(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.jsonl", tmp_path / "cache"
    write(groups(9), path)
    Indexed(path, folder=kept)
    (one,) = kept.iterdir()
    starts = np.fromfile(one, "<i8")
    assert starts.tolist() == np.cumsum([0, *(len(line) for line in path.read_bytes().splitlines(keepends=True))]).tolist()
    Indexed(path, folder=kept)
    assert list(kept.iterdir()) == [one]
    write(groups(10), path)
    assert len(Indexed(path, folder=kept)) == 10
    assert len(list(kept.iterdir())) == 2


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(groups(9), path)
    found = Indexed(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match="shorter"):
        found.read(8)


def test_what_cannot_be_streamed_says_how_to_prepare_it(tmp_path: Path) -> None:
    write(groups(3), tmp_path / "a.jsonl.gz")
    write(groups(3), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3)
    for name in ("a.jsonl.gz", "a.parquet", "b.jsonl"):
        with pytest.raises(FormatError, match="attune data prepare"):
            Indexed(tmp_path / name)
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(FormatError, match="no record"):
        Indexed(tmp_path / "empty.jsonl")


def test_many_files_need_few_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "_OPEN", 2)
    for number in range(6):
        write(groups(2, f"f{number}-"), tmp_path / "many" / f"{number}.jsonl")
    found = Indexed(tmp_path / "many")
    for number in (0, 11, 3, 7, 0, 5):
        assert found.read(number) == groups(2, f"f{number // 2}-")[number % 2]
    assert len(found._handles._open) == 2
