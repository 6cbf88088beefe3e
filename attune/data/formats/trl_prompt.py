"""TRL's prompt-only type: what a policy is asked, with whatever a reward function needs beside it."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.record import Group, Source
from attune.data import fields, turns
from attune.data.format import Format, Record

_SPOKEN = {"completion", "completions", "chosen", "rejected", "response", "responses", "response_1", "output", "output_1", "messages", "candidates", "label"}
_OTHERS = {"instruction", "instruction_id_list", "parsed_result", "attune", "score", "rating"}  # with these, the record is of another format


def _recognises(record: Record) -> bool:
    return isinstance(record.get("prompt"), (str, list)) and not record.keys() & (_SPOKEN | _OTHERS)


def _parse(record: Record, source: Source) -> Iterator[Group]:
    contexts = turns.ask(fields.content(record, "prompt"), record)
    name = fields.own_name(record, "id", "prompt_id") or fields.named(contexts)
    yield Group(id=name, contexts=contexts, source=source, meta=fields.rest(record, "prompt", "id", "prompt_id", *turns.OFFERED))


FORMAT = Format(
    name="trl_prompt",
    title="TRL prompt-only data: prompts to sample from",
    recognises=_recognises,
    parse=_parse,
    fields=("prompt",),
)
