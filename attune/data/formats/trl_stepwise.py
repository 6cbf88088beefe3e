"""TRL's stepwise supervision type: a solution in steps, each right or wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from attune.core.errors import RecordError
from attune.core.record import Group, Response, Source, Step
from attune.data import fields, turns
from attune.data.format import Format, Record


def _recognises(record: Record) -> bool:
    return {"prompt", "completions", "labels"} <= record.keys()


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """The steps' texts are joined by newlines, each newline closing the step before it."""
    texts = [fields.as_text(text, f"completions[{index}]") for index, text in enumerate(fields.items(record, "completions"))]
    labels = fields.items(record, "labels")
    if len(labels) != len(texts):
        raise RecordError("each step has a label", field="labels", value=len(labels), allowed=f"{len(texts)} labels")
    for index, label in enumerate(labels):
        if not isinstance(label, bool):
            raise RecordError("a label is true or false", field=f"labels[{index}]", value=label, allowed="true, false")
    whole = "\n".join(texts)
    ends = accumulate(len(text) + 1 for text in texts)
    steps = tuple(Step(end=min(end, len(whole)), label=float(label)) for end, label in zip(ends, labels, strict=True))
    contexts = turns.ask(fields.content(record, "prompt"), record)
    name = fields.own_name(record, "id", "prompt_id") or fields.named(contexts)
    meta = fields.rest(record, "prompt", "completions", "labels", "id", "prompt_id", *turns.OFFERED)
    yield Group(id=name, contexts=contexts, responses=(Response(content=whole, steps=steps),), source=source, meta=meta)


FORMAT = Format(
    name="trl_stepwise",
    title="TRL stepwise supervision: solutions whose steps are labelled true or false",
    recognises=_recognises,
    parse=_parse,
    fields=("prompt", "completions", "labels"),
)
