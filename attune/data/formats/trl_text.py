"""TRL's language-modelling type as bare text: a document that nobody asked for, so there is no prompt."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Response, Source
from attune.data import fields
from attune.data.format import Format, Record

_SPOKEN = {"prompt", "messages", "conversations", "instruction", "chosen", "completion", "response", "label", "score"}  # a text beside these is something else


def _recognises(record: Record) -> bool:
    return isinstance(record.get("text"), str) and not record.keys() & _SPOKEN


def _parse(record: Record, source: Source) -> Iterator[Group]:
    text = fields.text(record, "text")
    name = fields.own_name(record, "id") or fields.named({}, text)
    yield Group(id=name, responses=(Response(content=text),), source=source, meta=fields.rest(record, "text", "id"))


FORMAT = Format(
    name="trl_text",
    title="TRL language-modelling data as bare text; without a prompt it can be analysed, not trained on",
    recognises=_recognises,
    parse=_parse,
    fields=("text",),
)
