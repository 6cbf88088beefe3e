"""HelpSteer2: a response rated 0 to 4 in five attributes, by their mean or by each annotator."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Rating, Response, Source
from attune.data import fields, turns
from attune.data.format import Format, Record

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_SCALE = (0.0, 4.0)


def _recognises(record: Record) -> bool:
    return {"prompt", "response", *ATTRIBUTES} <= record.keys()


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """Lists of ratings (the release's "disagreements") come from annotators without names: all are kept, none gets a name."""
    contexts = turns.ask(turns.extra_id(fields.text(record, "prompt"), "prompt"), {})
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=(Response(content=fields.text(record, "response", empty=True)),),
        ratings=tuple(rating for name in ATTRIBUTES for rating in _ratings(record, name)),
        source=source,
        meta=fields.rest(record, "prompt", "response", *ATTRIBUTES, "id"),
    )


def _ratings(record: Record, name: str) -> Iterator[Rating]:
    value = record[name] if name in record else fields.number(record, name)
    given = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    for position, one in given:
        if one is None:
            continue
        where = name if position is None else f"{name}[{position}]"
        grade = fields.as_number(one, where)
        if not _SCALE[0] <= grade <= _SCALE[1]:
            raise RecordError("a rating lies on its scale", field=where, value=grade, allowed="0 to 4")
        yield Rating(response=0, value=grade, scale=_SCALE, aspect=name)


FORMAT = Format(
    name="helpsteer2",
    title="HelpSteer2: responses rated 0 to 4 in five attributes",
    recognises=_recognises,
    parse=_parse,
    fields=("prompt", "response", *ATTRIBUTES),
)
