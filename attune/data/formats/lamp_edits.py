"""LAMP (creativity_eval): a model's paragraph, a writer's edit of it with each change and its category, and scores before and after."""

from __future__ import annotations

from typing import Any

from attune.core.errors import RecordError
from attune.core.record import Change, Edit, Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import asked, below, grade, noted

_SCALE = (1.0, 10.0)


def _recognises(record: Record) -> bool:
    return {"preedit", "postedit", "fine_grained_edits"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    before, after, writer = fields.text(record, "preedit"), fields.text(record, "postedit"), fields.text(record, "annotator")
    changes = tuple(_change(index, change, before) for index, change in enumerate(fields.items(record, "fine_grained_edits", empty=True)))
    scores = fields.items(record, "creativity_scores")
    if len(scores) != 2:
        raise RecordError("there is a score before and one after", field="creativity_scores", value=scores, allowed="two scores")
    ratings = tuple(_rating(index, score, writer) for index, score in enumerate(scores))
    doubts = {
        f"fine_grained_edits[{index}].originalText": f"these words stand in the text {before.count(change.original)} times, so the change has no place"
        for index, change in enumerate(changes)
        if change.start is None
    }
    kept = fields.rest(record, "instruction", "preedit", "postedit", "annotator", "fine_grained_edits", "creativity_scores", "source", "type")
    return (
        Group(
            id="lamp-" + fields.text(record, "id"),
            contexts=asked(fields.text(record, "instruction")),
            responses=(
                Response(content=before, generator=fields.text(record, "source")),
                Response(content=after, generator=writer, edit=Edit(of=0, changes=changes, annotator=writer), meta=kept),
            ),
            ratings=ratings,
            source=source,
            meta=fields.rest({"type": record.get("type")}) | noted(doubts),
        ),
    )


def _rating(index: int, score: Any, writer: str) -> Rating:
    with below(f"creativity_scores[{index}]"):
        return Rating(response=index, value=grade({"score": score}, "score", *_SCALE), scale=_SCALE, aspect="creativity", annotator=writer)


def _change(index: int, change: Any, before: str) -> Change:
    with below(f"fine_grained_edits[{index}]"):
        change = fields.as_mapping(change, "change")
        original = fields.text(change, "originalText", empty=True)
        return Change(
            original=original,
            replacement=fields.text(change, "editedText", empty=True),
            # words that stand there more than once, or never, do not say which ones were changed
            start=before.index(original) if original and before.count(original) == 1 else None,
            type=fields.optional_text(change, "categorization"),
        )


FORMAT = Format(
    name="lamp_edits",
    title="LAMP: writers' span edits of model paragraphs, with creativity scores before and after",
    recognises=_recognises,
    parse=_parse,
    fields=("instruction", "preedit", "postedit", "fine_grained_edits", "annotator", "creativity_scores"),
)
