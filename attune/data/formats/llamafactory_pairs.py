"""LLaMA-Factory's ranking data in ShareGPT form: a dialogue, and two turns with which the assistant may go on."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields, turns
from attune.data.format import Format, Record

_SIDES = ("chosen", "rejected")


def _recognises(record: Record) -> bool:
    return isinstance(record.get(_dialogue(record)), list) and isinstance(record.get("chosen"), dict) and "rejected" in record


def _dialogue(record: Record) -> str:
    return "conversations" if "conversations" in record else "messages"


def _parse(record: Record, source: Source) -> Iterator[Group]:
    name = _dialogue(record)
    contexts = turns.ask(turns.dialogue(record, name), record)
    sides = [turns.answer((turns.sharegpt_turn(record.get(side), side),), side) for side in _SIDES]
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(Response(content=side) for side in sides),
        verdicts=(Verdict(tiers=((0,), (1,))),),
        source=source,
        meta=fields.rest(record, name, *_SIDES, "system", "id", *turns.OFFERED),
    )


FORMAT = Format(
    name="llamafactory_pairs",
    title="LLaMA-Factory pairs: conversations (or messages) with a chosen and a rejected turn",
    recognises=_recognises,
    parse=_parse,
    fields=("conversations", *_SIDES),
)
