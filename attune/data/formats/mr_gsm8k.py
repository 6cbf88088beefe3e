"""MR-GSM8K: a solution in steps, the first wrong one with a person's reason, and a model's critique of the same solution."""

from __future__ import annotations

from attune.core.errors import RecordError
from attune.core.record import Group, Rating, Response, Source, Step
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import JUDGE, asked, below, noted, solution, whole

_SCALE = (0.0, 1.0)
_RIGHT = {"correct": 1.0, "wrong": 0.0}
_STEPS, _SOLUTION, _ANSWER = "model_output_steps", "model_output_solution_correctness", "model_output_answer_correctness"
_FIRST, _WHY = "model_output_solution_first_error_step", "model_output_solution_first_error_reason"
_PROBLEM = ("ground_truth_solution", "ground_truth_answer")

_CRITIC = "claude2_eval_output"
_CRITIC_RIGHT = _RIGHT | {"incorrect": 0.0}  # the critic was not held to one word


def _recognises(record: Record) -> bool:
    return {"question", _STEPS, _SOLUTION, _FIRST} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    ratings = [
        Rating(response=0, value=_RIGHT[fields.choice(record, name, tuple(_RIGHT))], scale=_SCALE, aspect=aspect)
        for name, aspect in ((_SOLUTION, "solution"), (_ANSWER, "answer"))
    ]
    text, steps = _judged(record)
    doubts, critique = {}, None
    if _CRITIC in record:
        critic = fields.mapping(record, _CRITIC)
        with below(_CRITIC):
            critique, reason = fields.optional_text(critic, "response"), fields.optional_text(critic, "error_reason")
        found = critic.get("correctness_pred")
        if isinstance(found, str) and found in _CRITIC_RIGHT:
            ratings.append(Rating(response=0, value=_CRITIC_RIGHT[found], scale=_SCALE, aspect="solution", annotator=JUDGE + "claude-2", reason=reason))
        else:
            doubts[f"{_CRITIC}.correctness_pred"] = f"{found!r} is no judgement, so the critic rates nothing"
    kept = fields.rest(record, "question", _STEPS, _SOLUTION, _ANSWER, _FIRST, _WHY, *_PROBLEM)
    return (
        Group(
            id="mr-gsm8k-" + fields.text(record, "uuid"),
            contexts=asked(fields.text(record, "question")),
            responses=(Response(content=text, steps=steps, critique=critique, meta=kept),),
            ratings=tuple(ratings),
            source=source,
            meta={name: record[name] for name in _PROBLEM if name in record} | noted(doubts),
        ),
    )


def _judged(record: Record) -> tuple[str, tuple[Step, ...]]:
    """The solution and its steps; the source counts the first wrong one from 1."""
    lines = [fields.as_text(step, f"{_STEPS}[{index}]", empty=True) for index, step in enumerate(fields.items(record, _STEPS))]
    if record[_SOLUTION] == "correct":
        return solution(lines, None)
    first = whole(record, _FIRST)
    if not 1 <= first <= len(lines):
        raise RecordError("the first wrong step is one of the steps", field=_FIRST, value=first, allowed=f"1 to {len(lines)}, counted from 1")
    return solution(lines, first - 1, fields.optional_text(record, _WHY))


FORMAT = Format(
    name="mr_gsm8k",
    title="MR-GSM8K: solution steps, the first wrong one with a person's reason, and a model's critique",
    recognises=_recognises,
    parse=_parse,
    fields=("uuid", "question", _STEPS, _SOLUTION, _ANSWER, _FIRST),
)
