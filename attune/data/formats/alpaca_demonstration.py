"""Alpaca-style demonstrations: an instruction, perhaps an input to it, and an answer."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Response, Source
from attune.data import fields, turns
from attune.data.format import Format, Record

_OTHERS = {"chosen", "rejected", "kto_tag", "rating", "kind", "annotator"}  # with these, the record is of another format


def _recognises(record: Record) -> bool:
    return isinstance(record.get("instruction"), str) and isinstance(record.get("output"), str) and not record.keys() & _OTHERS


def _parse(record: Record, source: Source) -> Iterator[Group]:
    contexts = turns.ask(turns.alpaca(record), record)
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=(Response(content=fields.text(record, "output", empty=True)),),
        source=source,
        meta=fields.rest(record, *turns.ALPACA, "id", *turns.OFFERED),
    )


FORMAT = Format(
    name="alpaca_demonstration",
    title="Alpaca-style demonstrations: instruction, input, output",
    recognises=_recognises,
    parse=_parse,
    fields=("instruction", "output"),
)
