"""Alpaca-style pairs, as LLaMA-Factory reads them: an instruction, and two answers of which one was chosen."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields, turns
from attune.data.format import Format, Record

_SIDES = ("chosen", "rejected")


def _recognises(record: Record) -> bool:
    return isinstance(record.get("instruction"), str) and isinstance(record.get("chosen"), str) and "rejected" in record


def _parse(record: Record, source: Source) -> Iterator[Group]:
    contexts = turns.ask(turns.alpaca(record), record)
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(Response(content=fields.text(record, side, empty=True)) for side in _SIDES),
        verdicts=(Verdict(tiers=((0,), (1,))),),
        source=source,
        meta=fields.rest(record, *turns.ALPACA, *_SIDES, "id", *turns.OFFERED),
    )


FORMAT = Format(
    name="alpaca_pairs",
    title="Alpaca-style pairs: instruction, input, chosen, rejected",
    recognises=_recognises,
    parse=_parse,
    fields=("instruction", *_SIDES),
)
