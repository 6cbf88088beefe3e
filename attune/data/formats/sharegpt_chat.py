"""Chats as ShareGPT and LLaMA-Factory write them: each thing the assistant says is a demonstration."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Source
from attune.data import turns
from attune.data.format import Format, Record

_OTHERS = {"label", "kto_tag", "chosen", "rejected"}  # with these, the record is of another format


def _recognises(record: Record) -> bool:
    return isinstance(record.get("conversations"), list) and not record.keys() & _OTHERS


def _parse(record: Record, source: Source) -> Iterator[Group]:
    yield from turns.lessons(turns.dialogue(record, "conversations"), "conversations", record, source)


FORMAT = Format(
    name="sharegpt_chat",
    title="Chats in conversations of from/value turns (ShareGPT, LLaMA-Factory): demonstrations",
    recognises=_recognises,
    parse=_parse,
    fields=("conversations",),
)
