"""WildBench judgments: one model's answer to one session, scored from 1 to 10 with its strengths and weaknesses; the prompts are not in the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attune.core.record import Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, below, grade

_JUDGE = JUDGE + "wildbench"  # a record does not name the model that judged it, only its file's folder does
_SCALE = (1.0, 10.0)


def _recognises(record: Record) -> bool:
    return {"session_id", "model_test", "model_output", "score", "parsed_result"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    said = fields.mapping(record, "parsed_result")
    return (
        Group(
            id="wildbench-" + fields.text(record, "session_id"),
            responses=(
                Response(
                    content=fields.text(record, "model_output", empty=True),
                    generator=fields.text(record, "model_test"),
                    meta=fields.rest(record, "session_id", "model_test", "model_output", "score", "parsed_result"),
                ),
            ),
            ratings=(Rating(response=0, value=grade(record, "score", *_SCALE), scale=_SCALE, annotator=_JUDGE, reason=_reason(said)),),
            source=source,
        ),
    )


def _reason(said: Mapping[str, Any]) -> str | None:
    with below("parsed_result"):
        parts = [(name, fields.optional_text(said, name)) for name in said if name != "score"]
    return "\n\n".join(f"{name.capitalize()}: {text}" for name, text in parts if text) or None


FORMAT = Format(
    name="wildbench_judgments",
    title="WildBench: answers of several models scored by a judge with strengths and weaknesses (no prompts)",
    recognises=_recognises,
    parse=_parse,
    fields=("session_id", "model_test", "model_output", "score", "parsed_result"),
)
