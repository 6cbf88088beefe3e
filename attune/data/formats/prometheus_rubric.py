"""Prometheus' evaluation sets: an answer graded from 1 to 5 on a rubric by GPT-4, several times, each grade with written feedback.

The answers to one question (`idx`) make one group. Each names its own context: in a second turn the prompt holds what its model said in the first.
"""

from __future__ import annotations

import re

from attune.core.errors import RecordError
from attune.core.record import MAIN, Group, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, asked, below, whole

_SCALE = (1.0, 5.0)
_PARTS = re.compile(
    r"###Task Description:\n(?P<task>.*?)\n\n"
    r"###The instruction to evaluate:\n(?P<prompt>.*)\n\n"
    r"###Response to evaluate:\n(?P<response>.*)\n\n"
    r"###Reference Answer \(Score 5\):\n(?P<reference>.*)\n\n"
    r"###Score Rubrics:\n\[(?P<criterion>[^\n]*)\]\n(?P<grades>.*)\n\n"
    r"###Feedback: ?",
    re.DOTALL,
)
_HEADINGS = ("Task Description", "The instruction to evaluate", "Response to evaluate", "Reference Answer (Score 5)", "Score Rubrics", "Feedback")
_HEADING = re.compile(f"^###({'|'.join(map(re.escape, _HEADINGS))}):", re.MULTILINE)


def _recognises(record: Record) -> bool:
    return {"instruction", "response_source", "gpt4_score", "gpt4_feedback"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    sheet = _sheet(fields.text(record, "instruction"))
    scores, reasons = fields.items(record, "gpt4_score"), fields.items(record, "gpt4_feedback")
    if len(scores) != len(reasons):
        raise RecordError("each grade has its feedback", field="gpt4_feedback", value=len(reasons), allowed=f"{len(scores)} texts")
    generator = fields.text(record, "response_source")
    ratings = tuple(
        Rating(
            response=0,
            value=_score(index, score),
            scale=_SCALE,
            annotator=f"{JUDGE}gpt-4#{index + 1}",
            reason=fields.as_text(reason, f"gpt4_feedback[{index}]"),
        )
        for index, (score, reason) in enumerate(zip(scores, reasons, strict=True))
    )
    return (
        Group(
            id=f"prometheus-{whole(record, 'idx')}",
            contexts={generator: asked(sheet["prompt"])[MAIN]},
            responses=(Response(content=sheet["response"], generator=generator, context=generator),),
            ratings=ratings,
            criterion=sheet["criterion"],
            source=source,
            meta=fields.rest(record, "instruction", "gpt4_score", "gpt4_feedback", "response_source")
            | {"reference": sheet["reference"], "grades": sheet["grades"], "judge_task": sheet["task"]},
        ),
    )


def _sheet(instruction: str) -> dict[str, str]:
    """Cuts what the judge was given at its headings, each of which stands there once."""
    found = _PARTS.fullmatch(instruction)
    if found is None or len(_HEADING.findall(instruction)) != len(_HEADINGS):
        raise RecordError(
            "the judge's sheet has six parts", field="instruction", value=instruction, allowed="each once, in this order: " + ", ".join(_HEADINGS)
        )
    return found.groupdict()


def _score(index: int, score: object) -> float:
    with below(f"gpt4_score[{index}]"):
        return float(fields.choice({"score": score}, "score", (1, 2, 3, 4, 5)))


FORMAT = Format(
    name="prometheus_rubric",
    title="Prometheus: answers graded on a rubric by GPT-4, several samples each with written feedback",
    recognises=_recognises,
    parse=_parse,
    fields=("idx", "instruction", "response_source", "gpt4_score", "gpt4_feedback"),
)
