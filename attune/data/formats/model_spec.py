"""The OpenAI model spec's examples: answers to a conversation, labelled good, passable or bad, some with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attune.core.record import MAIN, Group, Message, Prompt, Rating, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import GOLD, below

_GRADES = ("GOOD", "OK", "BAD")  # best to worst
_THUMBS = {"GOOD": 1.0, "BAD": 0.0}  # "OK" is neither thumb: it speaks in the verdict alone


def _recognises(record: Record) -> bool:
    return {"prompt", "candidates", "section", "title"} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    contexts = {MAIN: Prompt(content=_turns(record))}
    candidates = fields.items(record, "candidates")
    responses, labels = [], []
    ratings: list[Rating] = []
    for index, candidate in enumerate(candidates):
        with below(f"candidates[{index}]"):
            candidate = fields.as_mapping(candidate, "candidate")
            label = None if candidate.get("label") is None else fields.choice(candidate, "label", _GRADES)
            comment = fields.optional_text(candidate, "comment")
            responses.append(Response(content=fields.text(candidate, "content", empty=True), meta=fields.rest({"label": label, "comment": comment})))
        labels.append(label)
        if label in _THUMBS:
            ratings.append(Rating(response=index, value=_THUMBS[label], scale=(0.0, 1.0), annotator=GOLD, reason=comment))
    return (
        Group(
            id="model-spec-" + fields.named(contexts),
            contexts=contexts,
            responses=tuple(responses),
            verdicts=_verdicts(labels),
            ratings=tuple(ratings),
            source=source,
            meta=fields.rest(record, "prompt", "candidates"),
        ),
    )


def _turns(record: Record) -> tuple[Message, ...]:
    """The conversation; an empty `attrs`, which nearly every turn has, says nothing and would reach a chat template."""
    return tuple({name: value for name, value in turn.items() if name != "attrs" or value} for turn in fields.messages(record, "prompt"))


def _verdicts(labels: Sequence[Any]) -> tuple[Verdict, ...]:
    """One verdict that ranks the labelled answers; none where all have one label, since that compares nothing."""
    tiers = [tuple(index for index, label in enumerate(labels) if label == grade) for grade in _GRADES]
    tiers = [tier for tier in tiers if tier]
    return (Verdict(tiers=tuple(tiers), annotator=GOLD),) if len(tiers) > 1 else ()


FORMAT = Format(
    name="model_spec",
    title="OpenAI model spec examples: answers labelled good, OK or bad in a conversation with system or developer turns",
    recognises=_recognises,
    parse=_parse,
    fields=("section", "title", "prompt", "candidates"),
)
