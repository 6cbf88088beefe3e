"""LLaMA-Factory's KTO data: a dialogue (or an Alpaca record) whose last answer got a thumb up or down."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Content, Group, Message, Rating, Response, Source
from attune.data import fields, turns
from attune.data.format import Format, Record

_LABELS = ("kto_tag", "label")
_DIALOGUES = ("messages", "conversations")


def _recognises(record: Record) -> bool:
    alpaca = isinstance(record.get("instruction"), str) and "output" in record and "kto_tag" in record
    return alpaca or (any(label in record for label in _LABELS) and any(isinstance(record.get(name), list) for name in _DIALOGUES))


def _parse(record: Record, source: Source) -> Iterator[Group]:
    dialogue = next((name for name in _DIALOGUES if name in record), "instruction")
    asked, answered = _alpaca(record) if dialogue == "instruction" else _last(turns.dialogue(record, dialogue), dialogue)
    contexts = turns.ask(asked, record)
    label = next((name for name in _LABELS if name in record), _LABELS[0])
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=(Response(content=answered),),
        ratings=(Rating(response=0, value=float(fields.boolean(record, label)), scale=(0.0, 1.0)),),
        source=source,
        meta=fields.rest(record, dialogue, label, "system", "id", *(turns.ALPACA if dialogue == "instruction" else ()), *turns.OFFERED),
    )


def _alpaca(record: Record) -> tuple[tuple[Message, ...], Content]:
    return turns.alpaca(record), fields.text(record, "output", empty=True)


def _last(said: tuple[Message, ...], where: str) -> tuple[tuple[Message, ...], Content]:
    if len(said) < 2 or said[-1]["role"] != "assistant":
        raise RecordError(
            "a rated dialogue ends with the assistant's answer",
            field=f"{where}[{len(said) - 1}].role",
            value=said[-1]["role"],
            allowed="assistant, behind a prompt",
        )
    return said[:-1], turns.answer(said[-1:], where)


FORMAT = Format(
    name="llamafactory_kto",
    title="LLaMA-Factory KTO: messages, conversations or an instruction, with a label true or false",
    recognises=_recognises,
    parse=_parse,
    fields=("messages", "label"),
)
