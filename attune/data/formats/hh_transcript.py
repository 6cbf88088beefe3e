"""hh-rlhf: two dialogues written out as one text each, equal up to the assistant's last turn, of which people chose one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Message, Response, Source, Verdict
from attune.data import fields, turns
from attune.data.format import Format, Record

_MARK = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def _recognises(record: Record) -> bool:
    return turns.is_transcript(record.get("chosen")) and "rejected" in record and record.get("prompt") is None


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """The white space around a turn belongs to the writing, not to what was said, and is left out."""
    chosen, rejected = _dialogue(record, "chosen"), _dialogue(record, "rejected")
    if chosen[:-1] != rejected[:-1]:
        same = next((index for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), min(len(chosen), len(rejected)))
        raise RecordError(
            f"the dialogues differ at turn {same + 1}, before the last answer", field="rejected", value=record["rejected"], allowed="equal up to there"
        )
    contexts = turns.ask(chosen[:-1], {})
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(Response(content=turns.answer(side[-1:], name)) for name, side in (("chosen", chosen), ("rejected", rejected))),
        verdicts=(Verdict(tiers=((0,), (1,))),),
        source=source,
        meta=fields.rest(record, "chosen", "rejected", "id"),
    )


def _dialogue(record: Record, name: str) -> tuple[Message, ...]:
    text = fields.text(record, name)
    before, *pieces = _MARK.split(text)
    if before.strip() or not pieces:
        raise RecordError("a transcript begins with a turn", field=name, value=text, allowed=r"'\n\nHuman: ...'")
    said = tuple({"role": _ROLES[who], "content": words.strip()} for who, words in zip(pieces[::2], pieces[1::2], strict=True))
    if said[-1]["role"] != "assistant" or len(said) < 2:
        raise RecordError("a transcript ends with the assistant's answer to somebody", field=name, value=text[-60:], allowed=r"'\n\nAssistant: ...' at the end")
    return said


FORMAT = Format(
    name="hh_transcript",
    title="hh-rlhf: chosen and rejected as whole transcripts with Human: and Assistant:",
    recognises=_recognises,
    parse=_parse,
    fields=("chosen", "rejected"),
)
