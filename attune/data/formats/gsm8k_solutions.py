"""GSM8K's example solutions: one problem, a solution of each of several models, and whether its final answer is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attune.core.record import Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import PROGRAM, asked, below


def _recognises(record: Record) -> bool:
    return {"question", "ground_truth"} <= record.keys() and any(map(_is_solution, record.values()))


def _parse(record: Record, source: Source) -> tuple[Group]:
    models = [name for name, value in record.items() if _is_solution(value)]
    responses, ratings = [], []
    for index, model in enumerate(models):
        with below(model):
            responses.append(Response(content=fields.text(record[model], "solution", empty=True), generator=model))
            right = fields.boolean(record[model], "is_correct")
        ratings.append(Rating(response=index, value=float(right), scale=(0.0, 1.0), aspect="answer", annotator=PROGRAM))
    contexts = asked(fields.text(record, "question"))
    return (
        Group(
            id="gsm8k-" + fields.named(contexts),
            contexts=contexts,
            responses=tuple(responses),
            ratings=tuple(ratings),
            source=source,
            meta=fields.rest(record, "question", *models),
        ),
    )


def _is_solution(value: Any) -> bool:
    return isinstance(value, Mapping) and {"is_correct", "solution"} <= value.keys()


FORMAT = Format(
    name="gsm8k_solutions",
    title="GSM8K example solutions: several models' solutions of one problem, right or wrong",
    recognises=_recognises,
    parse=_parse,
    fields=("question", "ground_truth"),
)
