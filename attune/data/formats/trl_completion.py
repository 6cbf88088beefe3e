"""TRL's prompt-completion type: a demonstration, as text or turns."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Response, Source
from attune.data import fields, turns
from attune.data.format import Format, Record


def _recognises(record: Record) -> bool:
    return {"prompt", "completion"} <= record.keys() and "label" not in record


def _parse(record: Record, source: Source) -> Iterator[Group]:
    prompt, completion = turns.exchange(record, "prompt", "completion")
    contexts = turns.ask(prompt, record)
    name = fields.own_name(record, "id", "prompt_id") or fields.named(contexts)
    meta = fields.rest(record, "prompt", "completion", "id", "prompt_id", *turns.OFFERED)
    yield Group(id=name, contexts=contexts, responses=(Response(content=completion),), source=source, meta=meta)


FORMAT = Format(
    name="trl_completion",
    title="TRL prompt-completion data: demonstrations, standard or conversational",
    recognises=_recognises,
    parse=_parse,
    fields=("prompt", "completion"),
)
