"""TRL's unpaired preference type: a prompt, one completion and whether it is good."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Rating, Response, Source
from attune.data import fields, saying, turns
from attune.data.format import Format, Record

THUMBS = (0.0, 1.0)
"""The scale of down and up."""


def _recognises(record: Record) -> bool:
    return {"prompt", "completion", "label"} <= record.keys()


def _parse(record: Record, source: Source) -> Iterator[Group]:
    prompt, completion = turns.exchange(record, "prompt", "completion")
    contexts = turns.ask(prompt, record)
    yield Group(
        id=fields.own_name(record, "id", "prompt_id") or fields.named(contexts),
        contexts=contexts,
        responses=(Response(content=completion),),
        ratings=(Rating(response=0, value=float(fields.boolean(record, "label")), scale=THUMBS),),
        source=source,
        meta=fields.rest(record, "prompt", "completion", "label", "id", "prompt_id", *turns.OFFERED),
    )


def _write(group: Group) -> Iterator[Record]:
    """Yields a record for every rating; only thumbs for the response as a whole can be said."""
    if not group.ratings:
        raise RecordError("a label needs a rating", field="ratings", value=(), allowed="at least one")
    for index, rating in enumerate(group.ratings):
        if rating.scale != THUMBS or rating.value not in THUMBS or rating.aspect is not None:
            raise RecordError(
                "only thumbs up or down can be said here", field=f"ratings[{index}]", value=rating.value, allowed="0 or 1 on the scale (0, 1), no aspect"
            )
        prompt = saying.context(group, group.responses[rating.response])
        completion = saying.reply(prompt, saying.text(group, rating.response), f"responses[{rating.response}].content")
        yield {"id": group.id, **saying.offer(prompt), "completion": completion, "label": bool(rating.value)}


FORMAT = Format(
    name="trl_unpaired",
    title="TRL unpaired preference data: prompt, completion, label true or false",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    fields=("prompt", "completion", "label"),
)
