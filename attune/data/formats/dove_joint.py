"""DOVE's joint preferences: one (instruction, response) preferred over another; the two instructions may be the same one."""

from __future__ import annotations

from attune.core.record import MAIN, Group, Prompt, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import PAIR, asked


def _recognises(record: Record) -> bool:
    return {"i_chosen", "r_chosen", "i_reject", "r_reject"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    chosen, rejected = fields.text(record, "i_chosen"), fields.text(record, "i_reject")
    contexts: dict[str, Prompt] = asked(chosen)
    names = (MAIN, MAIN)
    if chosen != rejected:
        names = ("chosen", "rejected")
        contexts = {names[0]: contexts[MAIN], names[1]: asked(rejected)[MAIN]}
    responses = tuple(
        Response(content=fields.text(record, name, empty=True), context=context) for name, context in zip(("r_chosen", "r_reject"), names, strict=True)
    )
    return (
        Group(
            id="dove-" + fields.named(contexts),
            contexts=contexts,
            responses=responses,
            verdicts=(Verdict(tiers=PAIR[1]),),
            source=source,
            meta=fields.rest(record, "i_chosen", "r_chosen", "i_reject", "r_reject"),
        ),
    )


FORMAT = Format(
    name="dove_joint",
    title="DOVE: a preferred and a dispreferred pair of instruction and response",
    recognises=_recognises,
    parse=_parse,
    fields=("i_chosen", "r_chosen", "i_reject", "r_reject"),
)
