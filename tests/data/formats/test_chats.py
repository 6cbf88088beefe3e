"""Chats without labels: openai_chat and sharegpt_chat give a demonstration for every turn of the assistant."""

from __future__ import annotations

from attune.core.record import Source
from attune.data.discovery import formats

HERE = Source(file="f", line=1)


def test_both_spellings_give_the_same_lessons() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    tags = {"user": "human", "assistant": "gpt"}
    chat = {"messages": messages, "tools": [{"name": "t"}]}
    shared = {"conversations": [{"from": tags[turn["role"]], "value": turn["content"]} for turn in messages], "tools": '[{"name": "t"}]'}
    assert formats()["openai_chat"].recognises(chat)
    assert formats()["sharegpt_chat"].recognises(shared)
    one, two = list(formats()["openai_chat"].parse(chat, HERE)), list(formats()["sharegpt_chat"].parse(shared, HERE))
    assert one == two
    assert [(group.prompt.content, group.responses[0].content) for group in one] == [((messages[0],), "b"), (tuple(messages[:3]), "d")]
    assert one[0].prompt.tools == ({"name": "t"},)
