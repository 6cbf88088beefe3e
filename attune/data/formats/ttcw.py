"""Torrance test of creative writing (creativity_eval): stories on a plot, fourteen yes-or-no tests each, by three experts with reasons."""

from __future__ import annotations

from typing import Any

from attune.core.record import Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import asked, below, whole

_ANSWERS = {"Yes": 1.0, "No": 0.0}


def _recognises(record: Record) -> bool:
    return {"plot", "story_id", "content", "annotations"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    name = fields.text(record, "story_id")
    story = Response(content=fields.text(record, "content"), generator=name.partition("_")[2] or None, meta={"story_id": name})
    return (
        Group(
            id=f"ttcw-{name}",
            contexts=asked(fields.text(record, "plot")),
            responses=(story,),
            ratings=tuple(_rating(index, answer) for index, answer in enumerate(fields.items(record, "annotations", empty=True))),
            source=source,
            meta=fields.rest(record, "story_id", "content", "plot", "annotations"),
        ),
    )


def _rating(index: int, answer: Any) -> Rating:
    with below(f"annotations[{index}]"):
        answer = fields.as_mapping(answer, "annotation")
        return Rating(
            response=0,
            value=_ANSWERS[fields.choice(answer, "binary_verdict", tuple(_ANSWERS))],
            scale=(0.0, 1.0),
            aspect=fields.text(answer, "category"),
            annotator=f"expert{whole(answer, 'expert_idx')}",
            reason=fields.optional_text(answer, "explanation"),
        )


FORMAT = Format(
    name="ttcw",
    title="TTCW: short stories on a plot, fourteen yes-or-no tests by named experts with reasons",
    recognises=_recognises,
    parse=_parse,
    fields=("plot", "story_id", "content", "annotations"),
)
