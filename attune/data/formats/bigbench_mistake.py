"""BIG-Bench Mistake: a chain of thought in steps and the first step at which it goes wrong, if any."""

from __future__ import annotations

from attune.core.record import Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import PROGRAM, asked, below, solution, whole


def _recognises(record: Record) -> bool:
    return {"input", "steps", "mistake_index", "target", "answer"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    contexts = asked(fields.text(record, "input"))
    lines = [fields.as_text(step, f"steps[{index}]", empty=True) for index, step in enumerate(fields.items(record, "steps"))]
    first_wrong = None if record.get("mistake_index", ...) is None else whole(record, "mistake_index")
    with below("mistake_index"):
        text, steps = solution(lines, first_wrong)
    answer, target = fields.text(record, "answer", empty=True), fields.text(record, "target", empty=True)
    # an answer that is "" was never given, which is not a wrong one
    ratings = (Rating(response=0, value=float(answer == target), scale=(0.0, 1.0), aspect="answer", annotator=PROGRAM),) if answer else ()
    return (
        Group(
            id="mistake-" + fields.named(contexts),
            contexts=contexts,
            responses=(Response(content=text, steps=steps, meta={"answer": answer}),),
            ratings=ratings,
            source=source,
            meta=fields.rest(record, "input", "steps", "mistake_index", "answer"),
        ),
    )


FORMAT = Format(
    name="bigbench_mistake",
    title="BIG-Bench Mistake: reasoning steps and the first wrong one",
    recognises=_recognises,
    parse=_parse,
    fields=("input", "steps", "mistake_index", "target", "answer"),
)
