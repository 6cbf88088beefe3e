"""UltraFeedback as its authors give it: an instruction, four completions, and what GPT-4 said about each in four aspects and overall."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import MAIN, Group, Prompt, Rating, Response, Source
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, noted

ANNOTATOR = JUDGE + "gpt-4"
_ASPECT, _OVERALL = (1.0, 5.0), (1.0, 10.0)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_DESERVED = 4.0  # a mean over the aspects up to which an overall 10 is not to be believed (the authors' own rule)


def _recognises(record: Record) -> bool:
    completions = record.get("completions")
    return isinstance(record.get("instruction"), str) and isinstance(completions, list) and all(isinstance(one, dict) for one in completions)


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """A rating "N/A" is an abstention. The first release read overall scores of 1 as 10: such a 10 is kept and noted as doubtful."""
    contexts = {MAIN: Prompt(content=({"role": "user", "content": fields.text(record, "instruction")},))}
    responses: list[Response] = []
    ratings: list[Rating] = []
    doubts: dict[str, str] = {}
    for index, completion in enumerate(fields.items(record, "completions", empty=True)):
        where = f"completions[{index}]"
        completion = fields.as_mapping(completion, where)
        responses.append(_response(completion, where))
        given = list(_ratings(completion, where, index))
        ratings += given
        aspects = [float(rating.value) for rating in given if rating.aspect is not None and rating.value != "abstain"]
        overall = next((rating.value for rating in given if rating.aspect is None), None)
        if overall == _OVERALL[1] and aspects and sum(aspects) / len(aspects) <= _DESERVED:
            doubts[f"{where}.overall_score"] = f"10, though the aspects average {sum(aspects) / len(aspects):.2f} of 5: a 1 may have been read as 10"
    yield Group(
        id=fields.own_name(record, "id", "prompt_id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(responses),
        ratings=tuple(ratings),
        source=source,
        meta=fields.rest(record, "instruction", "completions", "id", "prompt_id", "models") | noted(doubts),
    )


def _response(completion: Record, where: str) -> Response:
    used = ("response", "model", "critique", "annotations", "overall_score", "fine-grained_score")
    return Response(
        content=fields.as_text(completion.get("response"), f"{where}.response", empty=True),
        generator=fields.optional_text(completion, "model"),
        critique=fields.optional_text(completion, "critique"),
        meta=fields.rest(completion, *used),
    )


def _ratings(completion: Record, where: str, index: int) -> Iterator[Rating]:
    said_of = completion.get("annotations")
    for aspect, said in fields.as_mapping({} if said_of is None else said_of, f"{where}.annotations").items():
        here = f"{where}.annotations.{aspect}"
        # the files of the authors' repository hold a list of one where the published set holds the object
        for one in said if isinstance(said, list) else [said]:
            one = fields.as_mapping(one, here)
            reasons = [words for name in ("Rationale", "Rationale For Rating") if (words := fields.optional_text(one, name)) is not None]
            value = _grade(one.get("Rating"), f"{here}.Rating", *_ASPECT)
            if value is not None:
                yield Rating(response=index, value=value, scale=_ASPECT, aspect=aspect, annotator=ANNOTATOR, reason="\n".join(reasons) or None)
    overall = _grade(completion.get("overall_score"), f"{where}.overall_score", *_OVERALL)
    if overall is not None:
        yield Rating(response=index, value=overall, scale=_OVERALL, annotator=ANNOTATOR, reason=fields.optional_text(completion, "critique"))


def _grade(value: Any, where: str, lowest: float, highest: float) -> Any:
    """Returns a grade spelt as text or number, "abstain" for N/A, None where there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        if value.strip().upper() == "N/A":
            return "abstain"
        if not _NUMBER.fullmatch(value.strip()):
            raise RecordError("a rating is a number", field=where, value=value, allowed="a number, also as text, or N/A")
        value = float(value)
    if not lowest <= fields.as_number(value, where) <= highest:
        raise RecordError("a rating lies on its scale", field=where, value=value, allowed=f"{lowest:g} to {highest:g}")
    return value


FORMAT = Format(
    name="ultrafeedback",
    title="UltraFeedback, raw: completions with GPT-4's ratings in four aspects and overall",
    recognises=_recognises,
    parse=_parse,
    fields=("instruction", "completions"),
)
