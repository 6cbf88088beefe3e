"""hh-rlhf transcripts: turns, one shared prompt, the last answers differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source, Verdict
from attune.data.formats.hh_transcript import FORMAT
from attune.data.read import read

HERE = Source(file="f", line=1)
START = "\n\nHuman: Hi  there\n\nAssistant: Yes?\n\nHuman: Note:\n\nit is late.\n\nAssistant:"


def test_a_transcript_becomes_turns() -> None:
    record = {"chosen": START + " Good night.\n", "rejected": START}
    assert FORMAT.recognises(record)
    (group,) = FORMAT.parse(record, HERE)
    assert group.prompt.content == (
        {"role": "user", "content": "Hi  there"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Note:\n\nit is late."},
    )
    assert [response.content for response in group.responses] == ["Good night.", ""]
    assert group.verdicts == (Verdict(tiers=((0,), (1,))),)


@pytest.mark.parametrize(
    ("chosen", "rejected", "field", "said"),
    [
        (START + " a", START.replace("late", "early") + " b", "rejected", "differ at turn 3, before the last answer"),
        (START + " a", "\n\nHuman: Hi  there\n\nAssistant: b", "rejected", "differ at turn 2"),
        (START + " a\n\nHuman: b", START + " b", "chosen", "ends with the assistant's answer"),
        ("Hello" + START + " a", START + " b", "chosen", "begins with a turn"),
        ("\n\nAssistant: a", START + " b", "chosen", "ends with the assistant's answer to somebody"),
        (START + " a", "no transcript", "rejected", "begins with a turn"),
        (START + " a", 3, "rejected", "it is text"),
    ],
)
def test_what_is_no_pair_is_refused_with_the_reason(chosen: str, rejected: object, field: str, said: str) -> None:
    with pytest.raises(RecordError, match=said) as caught:
        list(FORMAT.parse({"chosen": chosen, "rejected": rejected}, HERE))
    assert caught.value.field == field


def test_the_real_sample(shared_data: Path) -> None:
    """Words of the source all come back: joining the turns with their marks gives the transcripts, white space aside."""
    import json

    path = shared_data / "pairs_hh_format_sample.jsonl"
    reading = read(path)
    groups, records = list(reading), [json.loads(line) for line in path.read_text().splitlines()]
    assert (len(groups), reading.account.records, reading.account.rejects) == (14, 14, [])
    marks = {"user": "Human:", "assistant": "Assistant:"}
    for group, record in zip(groups, records, strict=True):
        for response, side in zip(group.responses, ("chosen", "rejected"), strict=True):
            turns = [*group.prompt.content, {"role": "assistant", "content": response.content}]
            said = " ".join(f"{marks[turn['role']]} {turn['content']}" for turn in turns)
            assert said.split() == record[side].split()
