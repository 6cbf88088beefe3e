"""just-eval: one answer, graded from 1 to 5 on several aspects by a judge model, each grade with its reason."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Literal

from attune.core.record import Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, asked, below, grade, whole

_SCALE = (1.0, 5.0)
_NOT_SAID = "N/A"  # the judge held that the aspect does not apply


def _recognises(record: Record) -> bool:
    return {"input", "output_cand", "generator_cand", "parsed_result"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    setting = fields.mapping(record, "eval_config")
    with below("eval_config"):
        judge = JUDGE + fields.text(setting, "gpt")
    # the generator is named by the file of its outputs: some/folder/NAME.json
    generator = PurePosixPath(fields.text(record, "generator_cand")).name.removesuffix(".json")
    aspects = fields.mapping(record, "parsed_result")
    return (
        Group(
            id=f"just-eval-{whole(record, 'id')}",
            contexts=asked(fields.text(record, "input")),
            responses=(Response(content=fields.text(record, "output_cand", empty=True), generator=generator),),
            ratings=tuple(_rating(aspect, said, judge) for aspect, said in aspects.items()),
            source=source,
            meta=fields.rest(record, "input", "output_cand", "parsed_result"),
        ),
    )


def _rating(aspect: str, said: Any, judge: str) -> Rating:
    with below(f"parsed_result.{aspect}"):
        said = fields.as_mapping(said, "grade")
        value: float | Literal["abstain"] = "abstain" if said.get("score") == _NOT_SAID else grade(said, "score", *_SCALE)
        return Rating(response=0, value=value, scale=_SCALE, aspect=aspect, annotator=judge, reason=fields.optional_text(said, "reason"))


FORMAT = Format(
    name="just_eval",
    title="just-eval: single answers graded on several aspects by a judge model, with reasons",
    recognises=_recognises,
    parse=_parse,
    fields=("id", "input", "output_cand", "generator_cand", "eval_config", "parsed_result"),
)
