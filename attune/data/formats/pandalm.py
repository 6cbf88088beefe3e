"""PandaLM's test set: two answers to one instruction, judged by three people and two models, ties included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, PAIR, asked, noted, whole

_PEOPLE = ("annotator1", "annotator2", "annotator3")
_GPT = {"1": 1, "2": 2, "Tie": 0}
_UNREADABLE = "garbage"  # what stands there when the judge's answer could not be read: no verdict, which is not a tie


def _recognises(record: Record) -> bool:
    return {"cmp_key", "pandalm_result", *_PEOPLE} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    withheld = "text_withheld" in record and fields.boolean(record, "text_withheld")
    generators = fields.text(record, "cmp_key").split("_")
    if len(generators) != 2:
        raise RecordError("it names two generators", field="cmp_key", value=record["cmp_key"], allowed="FIRST_SECOND")
    contexts = {} if withheld else asked(fields.text(record, "instruction"), fields.text(record, "input", empty=True))
    responses = tuple(_response(record, withheld, name, generator) for name, generator in zip(("response1", "response2"), generators, strict=True))
    used = (*_PEOPLE, "instruction", "input", "response1", "response2", "gpt_reason", "pandalm_result", "pandalm_reason")
    doubts = {"gpt_result": "the judge's answer could not be read, so it gives no verdict"} if record.get("gpt_result") == _UNREADABLE else {}
    doubts |= {name: "a JSON boolean stands for the word" for name in ("response1", "response2") if isinstance(record.get(name), bool)}
    return (
        Group(
            id=f"pandalm-{whole(record, 'idx')}",
            contexts=contexts,
            responses=responses,
            verdicts=tuple(_verdicts(record)),
            source=source,
            meta=fields.rest(record, *used) | noted(doubts),
        ),
    )


def _response(record: Record, withheld: bool, name: str, generator: str) -> Response:
    if withheld:
        return Response(content=None, generator=generator)
    said: Any = record.get(name)
    if isinstance(said, bool):
        # the answer was the word "True" or "False", and some step of the source's making turned it into a JSON boolean
        return Response(content=str(said), generator=generator, meta={"written_as": said})
    return Response(content=fields.text(record, name, empty=True), generator=generator)


def _verdicts(record: Record) -> Iterator[Verdict]:
    for person in _PEOPLE:
        yield Verdict(tiers=PAIR[fields.choice(record, person, tuple(PAIR))], annotator=person)
    gpt = fields.choice(record, "gpt_result", (*_GPT, _UNREADABLE))
    shown = (0, 1)  # the judges' reasons speak of "Response 1" and "Response 2"
    if gpt != _UNREADABLE:
        reason = fields.optional_text(record, "gpt_reason")
        yield Verdict(tiers=PAIR[_GPT[gpt]], presented=shown, annotator=JUDGE + "gpt-3.5-turbo", reason=reason)
    panda = fields.choice(record, "pandalm_result", tuple(PAIR))
    yield Verdict(tiers=PAIR[panda], presented=shown, annotator=JUDGE + "pandalm-7b", reason=fields.optional_text(record, "pandalm_reason"))


FORMAT = Format(
    name="pandalm",
    title="PandaLM test set: pairs with ties from three people and two judge models",
    recognises=_recognises,
    parse=_parse,
    fields=("cmp_key", *_PEOPLE, "gpt_result", "pandalm_result"),
)
