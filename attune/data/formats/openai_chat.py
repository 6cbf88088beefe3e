"""Chats as OpenAI fine-tuning and TRL's conversational language modelling write them: each thing the assistant says is a demonstration."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Source
from attune.data import fields, turns
from attune.data.format import Format, Record

_OTHERS = {"label", "kto_tag", "chosen", "rejected", "rejected_response", "prompt", "conversations"}  # with these, the record is of another format


def _recognises(record: Record) -> bool:
    return isinstance(record.get("messages"), list) and not record.keys() & _OTHERS


def _parse(record: Record, source: Source) -> Iterator[Group]:
    yield from turns.lessons(fields.messages(record, "messages"), "messages", record, source)


FORMAT = Format(
    name="openai_chat",
    title="Chats in messages (OpenAI fine-tuning, TRL conversational): demonstrations",
    recognises=_recognises,
    parse=_parse,
    fields=("messages",),
)
