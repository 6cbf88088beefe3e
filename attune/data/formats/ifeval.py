"""IFEval: prompts whose constraints a program can check, without responses."""

from __future__ import annotations

from attune.core.errors import RecordError
from attune.core.record import Group, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import asked, whole


def _recognises(record: Record) -> bool:
    return {"prompt", "instruction_id_list", "kwargs"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    constraints, settings = fields.items(record, "instruction_id_list"), fields.items(record, "kwargs")
    if len(constraints) != len(settings):
        raise RecordError("each constraint has its settings", field="kwargs", value=len(settings), allowed=f"{len(constraints)} objects")
    return (
        Group(
            id=f"ifeval-{whole(record, 'key')}",
            contexts=asked(fields.text(record, "prompt")),
            source=source,
            meta=fields.rest(record, "prompt"),
        ),
    )


FORMAT = Format(
    name="ifeval",
    title="IFEval: prompts with constraints that a program can check",
    recognises=_recognises,
    parse=_parse,
    fields=("key", "prompt", "instruction_id_list", "kwargs"),
)
