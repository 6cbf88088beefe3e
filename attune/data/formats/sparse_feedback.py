"""Sparse feedback: ratings (1 to 7) of single answers and rankings of two answers to the same instruction, both by GPT-3.5."""

from __future__ import annotations

from attune.core.record import Group, Rating, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, PAIR, asked, grade

_JUDGE = JUDGE + "gpt-3.5-turbo"  # the source had both kinds written by this model; the record does not repeat it
_SCALE = (1.0, 7.0)
_WINNERS = {"(a)": 1, "(b)": 2, "equal": 0}


def _recognises(record: Record) -> bool:
    ranked = {"output1", "output2", "ranking"} <= record.keys()
    return {"kind", "instruction"} <= record.keys() and (ranked or {"output", "rating"} <= record.keys())


def _parse(record: Record, source: Source) -> tuple[Group]:
    contexts = asked(fields.text(record, "instruction"), fields.optional_text(record, "input") or "")
    ratings: tuple[Rating, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    shown: tuple[str, ...]
    if fields.choice(record, "kind", ("rating", "ranking")) == "rating":
        shown = ("output",)
        ratings = (Rating(response=0, value=grade(record, "rating", *_SCALE), scale=_SCALE, annotator=_JUDGE),)
    else:
        shown = ("output1", "output2")
        winner = _WINNERS[fields.choice(record, "ranking", tuple(_WINNERS))]
        # "(a)" and "(b)" are the places in which the judge was shown the two
        verdicts = (Verdict(tiers=PAIR[winner], presented=(0, 1), annotator=_JUDGE),)
    return (
        Group(
            id="sparse-" + fields.named(contexts),
            contexts=contexts,
            responses=tuple(Response(content=fields.text(record, name, empty=True)) for name in shown),
            verdicts=verdicts,
            ratings=ratings,
            source=source,
            meta=fields.rest(record, "kind", "instruction", "input", "rating", "ranking", *shown),
        ),
    )


FORMAT = Format(
    name="sparse_feedback",
    title="Sparse feedback: ratings and rankings of the same answers by one judge model",
    recognises=_recognises,
    parse=_parse,
    fields=("kind", "instruction"),
)
