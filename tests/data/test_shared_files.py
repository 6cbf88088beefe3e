"""Reading the real files gives what docs/concepts/formats_table.md says, whole and without loss."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import FormatError, RecordError
from attune.core.record import Group, Source, text_of
from attune.data.discovery import formats
from attune.data.read import Reading, read, read_table

TABLE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "formats_table.md"
TABLES = ("wildbench_scores", "wildbench_pairwise")
# their records are dialogues and sheets that are cut into parts, so no field stands whole in a group
CUT = ("hh_transcript", "prometheus_rubric")
POISON: tuple[Any, ...] = (None, True, 7, -1, math.nan, "", "x", "\ud800", [], ["x"], {}, {"x": 1}, ...)  # ...: the field is taken away


def rows_of_table() -> list[dict[str, str]]:
    """The rows of the one table with a column named "file", cells without backticks."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, *body = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, cells, strict=True)) for cells in body[1:]]


EXPECTED = {row["file"]: row for row in rows_of_table()}
WITH_GROUPS = [name for name, row in EXPECTED.items() if row["format"] not in TABLES]


def counts(reading: Reading, groups: list[Group]) -> dict[str, int]:
    """What the table counts, of groups that were read."""
    account = reading.account
    responses = [response for group in groups for response in group.responses]
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    ratings = [rating for group in groups for rating in group.ratings]
    return {
        "records": account.records,
        "rejects": len(account.rejects),
        "doubts": len(account.doubts),
        "groups": len(groups),
        "contexts": sum(len(group.contexts) for group in groups),
        "responses": len(responses),
        "verdicts": len(verdicts),
        "ties": sum(any(len(tier) > 1 for tier in verdict.tiers) for verdict in verdicts),
        "ratings": len(ratings),
        "abstains": sum(rating.value == "abstain" for rating in ratings),
        "spans": sum(len(response.spans or ()) for response in responses),
        "steps": sum(len(response.steps or ()) for response in responses),
        "edits": sum(response.edit is not None for response in responses),
        "trainable": sum(group.untrainable is None for group in groups),
    }


def test_the_table_is_about_every_file(shared_data: Path) -> None:
    assert set(EXPECTED) == {path.name for path in shared_data.iterdir() if ".jsonl" in path.name}
    assert len(EXPECTED) == 21


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_reading_gives_what_the_table_says(shared_data: Path, name: str) -> None:
    row = EXPECTED[name]
    reading = read(shared_data / name)
    groups = list(reading)
    found = counts(reading, groups)
    assert reading.format.name == row["format"]
    assert found == {column: int(row[column]) for column in found}
    assert reading.account.balanced
    assert len({group.id for group in groups}) == len(groups)
    lacking = {group.untrainable for group in groups} - {None}
    assert lacking == ({row["what the rest lacks"]} if row["what the rest lacks"] else set())


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in WITH_GROUPS])
def test_a_result_table_is_refused_as_feedback_and_read_as_a_table(shared_data: Path, name: str) -> None:
    with pytest.raises(FormatError, match=f"{EXPECTED[name]['format']} is a result table"):
        read(shared_data / name)
    assert len(list(read_table(shared_data / name))) == int(EXPECTED[name]["records"])
    assert EXPECTED[name]["what the rest lacks"] == "result table"


@pytest.mark.parametrize("name", EXPECTED)
def test_every_record_is_of_one_format(shared_data: Path, name: str) -> None:
    found = {tuple(other for other, format in formats().items() if format.recognises(record)) for record in read_table(shared_data / name)}
    assert found == {(EXPECTED[name]["format"],)}


@pytest.mark.parametrize("name", [name for name in WITH_GROUPS if EXPECTED[name]["format"] not in CUT])
def test_no_text_is_lost(shared_data: Path, name: str) -> None:
    records, groups = read_table(shared_data / name), read(shared_data / name, group_equal=False)
    for record, group in zip(records, groups, strict=True):
        kept = "\0".join(texts(group))
        lost = [text for text in texts(record) if len(text) > 12 and text not in kept]
        assert not lost, (group.id, lost[0][:80])


def test_the_judges_sheet_can_be_put_together_again(shared_data: Path) -> None:
    name = "rubric_ratings_prometheus.jsonl.gz"
    for record, group in zip(read_table(shared_data / name), read(shared_data / name, group_equal=False), strict=True):
        parts = {
            "Task Description": group.meta["judge_task"],
            "The instruction to evaluate": text_of(group.contexts[record["response_source"]].content),
            "Response to evaluate": group.responses[0].content,
            "Reference Answer (Score 5)": group.meta["reference"],
            "Score Rubrics": f"[{group.criterion}]\n{group.meta['grades']}",
        }
        sheet = "\n\n".join(f"###{heading}:\n{text}" for heading, text in parts.items()) + "\n\n###Feedback: "
        assert sheet == record["instruction"]


def test_spans_and_changes_lie_on_whole_words(shared_data: Path) -> None:
    marked = [response for group in read(shared_data / "spans_rankings_qa_feedback.jsonl.gz") for response in group.responses if response.spans]
    for response in marked:
        for span in response.spans or ():
            before, words, after = response.text[: span.start], response.text[span.start : span.end], response.text[span.end :]
            assert words == words.strip()
            assert not (before[-1:].isalnum() and words[0].isalnum())
            assert not (after[:1].isalnum() and words[-1].isalnum())
    placed = 0
    for group in read(shared_data / "span_edits_writers_lamp.jsonl.gz"):
        for response in group.responses:
            for change in (response.edit.changes or ()) if response.edit else ():
                if response.edit and change.start is not None:
                    assert group.responses[response.edit.of].text[change.start :].startswith(change.original)
                    placed += 1
    assert placed == 692 - 7


@pytest.mark.parametrize("name", ["steps_bigbench_mistake.jsonl.gz", "step_judgments_mr_gsm8k.jsonl.gz"])
def test_steps_are_the_lines_of_the_source(shared_data: Path, name: str) -> None:
    for record, group in zip(read_table(shared_data / name), read(shared_data / name, group_equal=False), strict=True):
        (response,) = group.responses
        ends = [step.end for step in response.steps or ()]
        lines = [response.text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        wanted = record["steps"] if "steps" in record else record["model_output_steps"]
        assert [line.removesuffix("\n") for line in lines] == wanted
        first = record["mistake_index"] if "steps" in record else record["model_output_solution_first_error_step"] - 1
        assert [step.label for step in response.steps or ()].index(0.0) == first if first is not None else all(step.label == 1 for step in response.steps or ())


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_a_spoilt_record_is_a_record_error_and_never_a_crash(shared_data: Path, name: str) -> None:
    format = formats()[EXPECTED[name]["format"]]
    records = list(read_table(shared_data / name))
    kinds = {tuple(sorted(record)): record for record in reversed(records)}  # the first of each set of fields
    tried, refused = 0, []
    for record in kinds.values():
        for spoilt in poisoned(record):
            tried += 1
            try:
                tuple(format.parse(spoilt, Source(file=name, line=1, format=format.name)))
            except RecordError as error:
                refused.append(error)
    assert all(error.field for error in refused)
    assert tried >= len(refused) > tried / 4


def texts(value: Any) -> Iterator[str]:
    """Every text inside plain data and our own nouns."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))


def poisoned(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The record with one value at a time, at any depth, replaced by each kind of poison or taken away."""
    for place in places(record):
        for poison in POISON:
            spoilt: Any = copy.deepcopy(record)
            holder = spoilt
            for key in place[:-1]:
                holder = holder[key]
            if poison is ...:
                del holder[place[-1]]
            else:
                holder[place[-1]] = poison
            yield spoilt


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside plain data; of a long list, to its first two elements."""
    keys = list(value) if isinstance(value, Mapping) else list(range(min(len(value), 2))) if isinstance(value, list) else []
    for key in keys:
        yield (key,)
        yield from ((key, *inner) for inner in places(value[key]))
