"""OpenAI preference fine-tuning: everything inside `input` stays with the prompt."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Prompt, Source, Verdict
from attune.data.formats.openai_preference import FORMAT

HERE = Source(file="f", line=1)
ASK = {"role": "user", "content": "How cold is it?"}
TOOL = {"type": "function", "function": {"name": "weather"}}
RECORD: dict[str, Any] = {
    "input": {"messages": [ASK], "tools": [TOOL], "parallel_tool_calls": True, "top": 1},
    "preferred_output": [{"role": "assistant", "content": "10 degrees."}],
    "non_preferred_output": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
}


def test_a_record_is_a_pair() -> None:
    assert FORMAT.recognises(RECORD)
    (group,) = FORMAT.parse(RECORD, HERE)
    assert group.prompt == Prompt(content=(ASK,), tools=(TOOL,), meta={"parallel_tool_calls": True})
    assert [response.content for response in group.responses] == ["10 degrees.", ({"role": "assistant", "tool_calls": [{"id": "1"}]},)]
    assert group.verdicts == (Verdict(tiers=((0,), (1,))),)
    assert group.meta == {"input": {"top": 1}}


def test_writing_gives_the_record_back() -> None:
    assert FORMAT.write is not None
    (group,) = FORMAT.parse(RECORD, HERE)
    (back,) = FORMAT.write(group)
    assert back["input"] == {"messages": [ASK], "tools": [TOOL], "parallel_tool_calls": True}
    assert back["preferred_output"] == RECORD["preferred_output"]
    assert back["non_preferred_output"] == [{"role": "assistant", "tool_calls": [{"id": "1"}]}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input": {}}, "input.messages"),
        ({"input": {"messages": [{"role": "user"}]}}, "input.messages[0].content"),
        ({"input": {"messages": [ASK], "tools": 3}}, "tools"),
        ({"preferred_output": []}, "preferred_output"),
        ({"non_preferred_output": [ASK]}, "non_preferred_output[0].role"),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse({**RECORD, **change}, HERE))
    assert caught.value.field == field
