"""LLaMA-Factory: pairs in ShareGPT and Alpaca form, KTO labels in three forms, and its two demonstration files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Group, Prompt, Rating, Source, Verdict
from attune.data.discovery import formats
from attune.data.read import read

HERE = Source(file="f", line=1)
ASK = {"role": "user", "content": "q"}


def only(format: str, record: dict[str, Any]) -> Group:
    assert formats()[format].recognises(record)
    (group,) = formats()[format].parse(record, HERE)
    return group


@pytest.mark.parametrize(
    ("format", "record"),
    [
        (
            "llamafactory_pairs",
            {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
        ),
        ("llamafactory_pairs", {"messages": [ASK], "chosen": {"role": "assistant", "content": "a"}, "rejected": {"role": "assistant", "content": "b"}}),
        ("alpaca_pairs", {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}),
    ],
)
def test_pairs(format: str, record: dict[str, Any]) -> None:
    group = only(format, {**record, "images": ["x.png"], "score": 1})
    assert group.prompt == Prompt(content=(ASK,), images=("x.png",))
    assert [response.content for response in group.responses] == ["a", "b"]
    assert group.verdicts == (Verdict(tiers=((0,), (1,))),)
    assert group.meta == {"score": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK, {"role": "assistant", "content": "a"}], "label": False},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": False},
        {"instruction": "q", "output": "a", "kto_tag": False},
    ],
)
def test_thumbs(record: dict[str, Any]) -> None:
    group = only("llamafactory_kto", record)
    assert group.prompt == Prompt(content=(ASK,))
    assert group.ratings == (Rating(response=0, value=0.0, scale=(0.0, 1.0)),)
    assert [response.content for response in group.responses] == ["a"]
    assert group.meta == {}


def test_a_demonstration() -> None:
    group = only("alpaca_demonstration", {"instruction": "q", "input": "", "output": "a", "system": "s", "origin": "o"})
    assert group.prompt == Prompt(content=({"role": "system", "content": "s"}, ASK))
    assert ([response.content for response in group.responses], group.meta) == (["a"], {"origin": "o"})


@pytest.mark.parametrize(
    ("format", "record", "field"),
    [
        ("llamafactory_kto", {"messages": [ASK], "label": True}, "messages[0].role"),
        ("llamafactory_kto", {"messages": [ASK, ASK], "label": True}, "messages[1].role"),
        ("llamafactory_kto", {"messages": [ASK, {"role": "assistant", "content": "a"}], "label": 1}, "label"),
        ("llamafactory_kto", {"instruction": "q", "output": 1, "kto_tag": True}, "output"),
        ("llamafactory_pairs", {"conversations": [{"from": "x", "value": "q"}], "chosen": {}, "rejected": {}}, "conversations[0].from"),
        (
            "llamafactory_pairs",
            {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "human", "value": "a"}, "rejected": {}},
            "chosen[0].role",
        ),
        ("llamafactory_pairs", {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": None}, "rejected"),
        ("alpaca_pairs", {"instruction": "", "chosen": "a", "rejected": "b"}, "instruction"),
        ("alpaca_demonstration", {"instruction": "q", "output": None}, "output"),
    ],
)
def test_the_field_at_fault_is_named(format: str, record: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(formats()[format].parse(record, HERE))
    assert caught.value.field == field


def test_the_real_thumbs(shared_data: Path) -> None:
    path = shared_data / "binary_kto_demo.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    reading = read(path)
    groups = list(reading)
    assert reading.format is formats()["llamafactory_kto"]
    assert (reading.account.records, reading.account.rejects, reading.account.doubts) == (181, [], [])
    # equal prompts are joined: 181 answers to as many prompts as there are different ones
    assert len(groups) == len({json.dumps(record["messages"][:-1]) for record in records}) == 180
    assert sum(rating.value for group in groups for rating in group.ratings) == sum(record["label"] for record in records) == 88
    assert sum(len(group.ratings) for group in groups) == 181


def test_the_real_pairs(shared_data: Path) -> None:
    path = shared_data / "pairs_multiturn_dpo_demo.jsonl.gz"
    with gzip.open(path) as stream:
        records = [json.loads(line) for line in stream]
    reading = read(path, group_equal=False)
    for group, record in zip(reading, records, strict=True):
        assert [turn["content"] for turn in group.prompt.content] == [turn["value"] for turn in record["conversations"]]
        assert [response.content for response in group.responses] == [record["chosen"]["value"], record["rejected"]["value"]]
    assert reading.account.used == 162
    assert len(list(read(path))) == len({json.dumps(record["conversations"]) for record in records}) == 159
