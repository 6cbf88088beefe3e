"""The reader: opens every kind of file, tells formats, accounts for every record, stops when too many are bad."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from attune.core.errors import AttuneError, FormatError, TooManyBadRecords
from attune.core.record import Source
from attune.data.account import ENOUGH, Account
from attune.data.read import read, read_table


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}", "chosen": "yes", "rejected": "no", **more}


def lines(*records: Any) -> str:
    return "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)


def parquet(path: Path, records: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=2)


def save(path: Path, records: list[dict[str, Any]]) -> Path:
    text = json.dumps(records, indent=1) if ".json" in path.suffixes else lines(*records)
    if path.suffix == ".parquet":
        parquet(path, records)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["d.jsonl", "d.ndjson", "d.json", "d.jsonl.gz", "d.json.gz", "d.parquet", "D.JSONL"])
def test_every_kind_of_file_gives_the_same_groups(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, [pair(number) for number in range(5)])
    reading = read(path)
    groups = list(reading)
    assert reading.format is not None
    assert reading.format.name == "trl_preference"
    assert [group.prompt.content for group in groups] == [f"Question {number}" for number in range(5)]
    # in the indented array an element takes five lines, after the line of the bracket
    expected = [2 + 5 * number if name.startswith("d.json") and "jsonl" not in name else 1 + number for number in range(5)]
    assert [group.source for group in groups] == [Source(file=str(path), line=line, format="trl_preference") for line in expected]
    assert reading.account == Account(records=5, used=5, parsed=5, groups=5, formats={str(path): "trl_preference"})


def test_a_json_file_may_hold_lines_and_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + lines(pair(0), "", "  ", pair(1)).replace("\n", "\r\n").encode())
    assert [group.source.line for group in read(tmp_path / "a.json") if group.source] == [1, 4]


def test_a_folder_a_pattern_and_a_list_are_read_in_order_each_with_its_own_format(tmp_path: Path) -> None:
    save(tmp_path / "b.jsonl", [pair(1)])
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    save(tmp_path / "deep" / "a.parquet", [{"prompt": "p", "completion": "c", "label": True}])
    save(tmp_path / ".hidden" / "x.jsonl", [pair(9)])
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "README.md").write_text("no data")
    reading = read(tmp_path)
    assert [Path(group.source.file).name for group in reading if group.source] == ["b.jsonl", "a.parquet"]
    assert list(reading.account.formats.values()) == ["trl_preference", "trl_unpaired"]
    assert len(list(read(str(tmp_path / "**" / "*.parquet")))) == 1
    assert len(list(read([tmp_path / "b.jsonl", tmp_path / "deep"]))) == 2


def test_equal_prompts_are_joined_within_a_file_and_only_when_asked(tmp_path: Path) -> None:
    records = [pair(0), pair(1), pair(0, rejected="perhaps")]
    path = save(tmp_path / "a.jsonl", records)
    reading = read(path)
    assert [len(group.responses) for group in reading] == [3, 2]
    assert (reading.account.parsed, reading.account.merged, reading.account.groups) == (3, 1, 2)
    reading = read(path, group_equal=False, id_prefix="x/")
    groups = list(reading)
    assert [len(group.responses) for group in groups] == [2, 2, 2]
    assert all(group.id.startswith("x/") for group in groups)
    assert reading.account.balanced


def test_reading_twice_accounts_twice_the_same(tmp_path: Path) -> None:
    reading = read(save(tmp_path / "a.jsonl", [pair(number) for number in range(30)]))
    once, first = list(reading), reading.account
    assert (list(reading), reading.account) == (once, first)


def test_bad_records_are_listed_and_the_equation_holds(tmp_path: Path) -> None:
    bad = ["{", "[1]", json.dumps(pair(7, chosen=3)), json.dumps({"id": "r9", "prompt": "p", "chosen": "c"})]
    path = tmp_path / "a.jsonl"
    path.write_text(lines(*(pair(number) for number in range(100)), *bad))
    reading = read(path)
    assert len(list(reading)) == 100
    account = reading.account
    assert (account.records, account.used, len(account.rejects)) == (104, 100, 4)
    assert account.balanced
    assert [(one.line, one.field, one.id) for one in account.rejects] == [(101, None, None), (102, None, None), (103, "chosen", None), (104, "rejected", "r9")]
    assert str(account.rejects[2]) == f"{path}:103: chosen: it is text (got 3); allowed: a string"


def test_a_share_above_the_allowed_one_stops_at_the_end_of_little_data(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(*(pair(number) for number in range(18)), "{", "{"))
    with pytest.raises(TooManyBadRecords, match=r"2 of 20 records cannot be used, 0\.05 of them may be bad: .*a\.jsonl:19: the line is not JSON"):
        list(read(path))
    assert len(list(read(path, max_bad=0.1))) == 18


def test_a_share_above_the_allowed_one_stops_early_in_much_data(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(*(pair(number) for number in range(ENOUGH - 20)), *["{"] * 5000))
    reading = read(path, group_equal=False)
    with pytest.raises(TooManyBadRecords):
        list(reading)
    # 180 good ones; at the 200th record 20 are bad, which is more than 5 %
    assert reading.account.records == ENOUGH


@pytest.mark.parametrize("max_bad", [0.5, 1.0])
def test_a_file_of_which_nothing_can_be_used_always_fails(tmp_path: Path, max_bad: float) -> None:
    (tmp_path / "a.jsonl").write_text(lines("{", "}"))
    with pytest.raises(TooManyBadRecords, match="2 of 2 records"):
        read(tmp_path / "a.jsonl", max_bad=max_bad)
    save(tmp_path / "a.jsonl", [pair(0)])
    save(tmp_path / "b.jsonl", [pair(0, prompt=""), pair(1, prompt="")])
    with pytest.raises(TooManyBadRecords, match=r"2 of 3 records .*b\.jsonl:1: prompt"):
        list(read(tmp_path, max_bad=max_bad))


def test_an_unknown_format_lists_what_was_seen_and_what_exists(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"foo": 1, "bar": 2}])
    with pytest.raises(FormatError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: the format is not known; its records have the fields foo, bar; allowed: ")
    assert "attune_native" in said
    assert "\n" not in said


def test_a_named_format_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [pair(0)])
    with pytest.raises(FormatError, match=r"not in the format 'trl_unpaired': no record has 'completion' or 'label'; .*it looks like trl_preference"):
        read(path, format="trl_unpaired")
    with pytest.raises(FormatError, match="there is no such format"):
        read(path, format="trl")
    assert len(list(read(path, format="trl_preference"))) == 1


def test_a_named_format_reads_what_detection_leaves_open(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(pair(0), {"foo": 1}, {"foo": 2}))
    with pytest.raises(FormatError, match="the format is not known"):
        read(path)
    reading = read(path, format="trl_preference", max_bad=1)
    assert len(list(reading)) == 1
    assert [one.line for one in reading.account.rejects] == [2, 3]


def test_result_tables_are_refused_and_read_as_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"model": "m", "session_id": "s", "score": "7", "output_len": 5}])
    with pytest.raises(FormatError, match=r"result table.*read_table"):
        read(path)
    assert list(read_table(path)) == [{"model": "m", "session_id": "s", "score": "7", "output_len": 5}]
    path.write_text("{")
    with pytest.raises(FormatError, match=r"a\.jsonl:1: the line is not JSON"):
        list(read_table(path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.jsonl", None, "there is no such file"),
        ("a.csv", b"x", "the name does not say what the file is"),
        ("a.jsonl", b"", "there is no record"),
        ("a.jsonl", b"\n \n", "there is no record"),
        ("a.json", b"[]", "there is no record"),
        ("a.jsonl.gz", b"no gzip", "the compressed file is damaged"),
        ("a.jsonl.gz", gzip.compress(lines(*map(pair, range(50))).encode())[:-20], "the compressed file is damaged"),
        ("a.jsonl", '{"prompt": 1}'.encode("utf-16"), "the file is UTF-16"),
        ("a.parquet", b"PAR1 but not really", "the Parquet file cannot be read"),
        ("a.json", b'[{"prompt": "p"', "an element of the JSON array is not JSON"),
        ("a.json", b'[{"prompt": "p"}', "the JSON array is broken"),
        ("a.json", b'[{"prompt": "p"} {"prompt": "q"}]', "the JSON array is broken"),
        ("a.json", b'[{"prompt": nope}]', "an element of the JSON array is not JSON"),
        ("a.json", b'[{"prompt": "p"}] more', "something stands after the end"),
        ("a.json", b'[{"prompt": "\xff"}]', "the JSON array is not UTF-8"),
        ("a.json", b"[" + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"]", "nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_says_why(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError) as caught:
        list(read(tmp_path / name))
    assert said in str(caught.value)
    assert name in str(caught.value)


def test_an_empty_folder_and_a_senseless_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no file of feedback"):
        read(tmp_path)
    with pytest.raises(FormatError, match="max_bad"):
        read(tmp_path, max_bad=5)
    with pytest.raises(FormatError, match="no file was named"):
        read([])


def test_arrays_are_read_across_the_edges_of_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [pair(number, note='ä"\\ \u2028' * number, nested=[{"n": number, "t": [True, None, -1.5e-7]}]) for number in range(20)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, indent=2, ensure_ascii=False), encoding="utf-8")
    whole = [(group.id, group.meta) for group in read(path)]
    for size in (1, 2, 7, 64):
        monkeypatch.setattr("attune.data.json_array._CHUNK", size)
        assert [(group.id, group.meta) for group in read(path)] == whole
    assert [meta for _, meta in whole] == [{"note": record["note"], "nested": record["nested"]} for record in records]


def test_a_number_across_the_edge_of_the_window_is_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(f"[{json.dumps(pair(0))}, 123456, {json.dumps(pair(1))}]")
    monkeypatch.setattr("attune.data.json_array._CHUNK", 1)
    reading = read(tmp_path / "a.json", max_bad=0.5)
    assert len(list(reading)) == 2
    assert [one.reason for one in reading.account.rejects] == ["a record is an object (got 123456); allowed: a JSON object: {...}"]


def test_a_record_of_several_groups_is_one_record(tmp_path: Path) -> None:
    messages = [{"role": role, "content": f"{role} {number}"} for number in range(3) for role in ("user", "assistant")]
    reading = read(save(tmp_path / "a.jsonl", [{"messages": messages}, {"messages": messages[:2]}]))
    assert len(list(reading)) == 3
    account = reading.account
    # the first lesson of both records answers one prompt
    assert (account.records, account.used, account.parsed, account.groups, account.merged) == (2, 2, 4, 3, 1)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_reading_without_joining_takes_little_memory(tmp_path: Path, name: str) -> None:
    """12 MB of records are read without holding them (an array's window is 1 MB of text, which is there twice or thrice while it moves)."""
    path = tmp_path / name
    filler = "x" * 1000
    with open(path, "w") as stream:
        stream.write("[" if name == "a.json" else "")
        for number in range(6000):
            stream.write((",\n" if number and name == "a.json" else "") + json.dumps(pair(number, filler=filler + filler)) + ("" if name == "a.json" else "\n"))
        stream.write("]" if name == "a.json" else "")
    reading = iter(read(path, group_equal=False))
    tracemalloc.start()
    count = sum(1 for _ in islice(reading, 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1000
    assert peak < 6e6, peak


def test_parquet_keeps_bytes_and_writes_dates_as_text(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    parquet(tmp_path / "a.parquet", [pair(0, images=[{"bytes": b"\x89P", "path": None}], when=datetime(2026, 1, 2, tzinfo=UTC), hole=None)])
    (group,) = read(tmp_path / "a.parquet")
    assert group.prompt.images == ({"bytes": b"\x89P", "path": None},)
    assert group.meta == {"when": "2026-01-02 00:00:00+00:00"}


def test_a_hub_is_read_through_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    class DatasetsError(Exception):
        pass

    def load_dataset(*args: Any, **more: Any) -> Any:
        called.append((args, more))
        if args[0] == "org/none":
            raise DatasetsError("nothing there")
        return SimpleNamespace(decode=lambda enable: [pair(0), pair(1, image=object())] if enable is False else [])

    module, exceptions = ModuleType("datasets"), ModuleType("datasets.exceptions")
    module.__dict__["load_dataset"] = load_dataset
    exceptions.__dict__["DatasetsError"] = DatasetsError
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    reading = read("hub:org/name:small@test", max_bad=0.5)
    (group,) = list(reading)
    assert called[0] == (("org/name", "small"), {"split": "test", "streaming": True})
    assert group.source == Source(file="hub:org/name:small@test", line=1, format="trl_preference")
    assert [(one.line, one.field) for one in reading.account.rejects] == [(2, "image")]
    with pytest.raises(FormatError, match="hub:org/none: the data set cannot be read: nothing there"):
        read("hub:org/none")


def test_a_hub_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(AttuneError, match=r"hub:org/name: reading from a hub needs the package 'datasets'; pip install 'attune\[hub\]'"):
        read("hub:org/name")
