"""Fine-grained RLHF's QA feedback: four answers from passages, all six pairs compared, error spans and a correction of the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import Edit, Group, Prompt, Response, Source, Span, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import PAIR, asked, below, whole

_ANSWERS = tuple(f"prediction {number}" for number in range(1, 5))
_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # the order in which `preference` lists them


def _recognises(record: Record) -> bool:
    return {"question", "passages", "preference", "feedback", *_ANSWERS} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    contexts = _contexts(record)
    feedback = fields.mapping(record, "feedback")
    with below("feedback"):
        errors = fields.items(feedback, "errors", empty=True)
        corrected = fields.text(feedback, "corrected-prediction", empty=True)
    answers = [fields.text(record, name, empty=True) for name in _ANSWERS]
    marked = {_ANSWERS[0]: tuple(_span(index, error, answers[0]) for index, error in enumerate(errors))}
    responses = [Response(content=text, spans=marked.get(name), meta={"field": name}) for name, text in zip(_ANSWERS, answers, strict=True)]
    if corrected:  # left empty by some annotators: they gave no correction
        responses.append(Response(content=corrected, edit=Edit(of=0), meta={"field": "feedback.corrected-prediction"}))
    return (
        Group(
            id="qa-feedback-" + fields.named(contexts),
            contexts=contexts,
            responses=tuple(responses),
            verdicts=_verdicts(fields.items(record, "preference")),
            source=source,
            meta=fields.rest(record, "question", "feedback", "preference", *_ANSWERS) | fields.rest(feedback, "errors", "corrected-prediction"),
        ),
    )


def _contexts(record: Record) -> dict[str, Prompt]:
    """The passages, numbered from 1 as the annotators' notes count them, and the question behind them."""
    shown = []
    for index, passage in enumerate(fields.items(record, "passages", empty=True)):
        with below(f"passages[{index}]"):
            sentences = [fields.as_text(part, "sentence", empty=True) for part in fields.items({"sentences": passage}, "sentences")]
        shown.append(f"Passage {index + 1}: {sentences[0]}\n" + " ".join(sentences[1:]))
    return asked(*shown, "Question: " + fields.text(record, "question"))


def _span(index: int, error: Any, answer: str) -> Span:
    with below(f"feedback.errors[{index}]"):
        error = fields.as_mapping(error, "error")
        start, end = whole(error, "start"), whole(error, "end")
        if not 0 <= start < end <= len(answer):
            raise RecordError("a span lies inside its answer", field="start, end", value=(start, end), allowed=f"0 <= start < end <= {len(answer)}")
        return Span(start=start, end=end, type=fields.text(error, "error type"), note=fields.optional_text(error, "explanation"))


def _verdicts(preference: Sequence[Any]) -> tuple[Verdict, ...]:
    if len(preference) != len(_PAIRS):
        raise RecordError("each pair is compared once", field="preference", value=preference, allowed="six values, for 12, 13, 14, 23, 24, 34")
    verdicts = []
    for index, (first, second) in enumerate(_PAIRS):
        with below(f"preference[{index}]"):
            winner = fields.choice({"winner": preference[index]}, "winner", tuple(PAIR))
        verdicts.append(Verdict(tiers=tuple(tuple((first, second)[place] for place in tier) for tier in PAIR[winner])))
    return tuple(verdicts)


FORMAT = Format(
    name="qa_feedback",
    title="Fine-grained RLHF QA feedback: four answers, six comparisons, error spans and a correction",
    recognises=_recognises,
    parse=_parse,
    fields=("question", "passages", "feedback", "preference", *_ANSWERS),
)
