"""HelpSteer2-Preference: two responses to one prompt, how much better one is, and people's reasons."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields, turns
from attune.data.format import Format, Record

_SIDES = ("response_1", "response_2")
_REASONS = ("preference_statement", "preference_elaboration")
_MOST = 3


def _recognises(record: Record) -> bool:
    return {"prompt", "preference_strength", *_SIDES} <= record.keys()


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """The overall preference is the verdict (below 0 the first is better, 0 a tie); single preferences, of which it is made, stay in meta."""
    contexts = turns.ask(turns.extra_id(fields.text(record, "prompt"), "prompt"), {})
    strength = fields.number(record, "preference_strength")
    if abs(strength) > _MOST:
        raise RecordError("a strength lies on its scale", field="preference_strength", value=strength, allowed="-3 to 3")
    tiers = ((0, 1),) if strength == 0 else ((0,), (1,)) if strength < 0 else ((1,), (0,))
    reasons = [words for name in _REASONS if (words := fields.optional_text(record, name)) is not None]
    # the reasons speak of Response 1 and Response 2, so this is the order in which people saw them
    verdict = Verdict(tiers=tiers, presented=(0, 1), strength=abs(strength), reason=" ".join(reasons) or None)
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(Response(content=fields.text(record, side, empty=True)) for side in _SIDES),
        verdicts=(verdict,),
        source=source,
        meta=fields.rest(record, "prompt", "preference_strength", *_SIDES, *_REASONS, "id"),
    )


FORMAT = Format(
    name="helpsteer2_preference",
    title="HelpSteer2-Preference: pairs with a strength from -3 to 3 and reasons",
    recognises=_recognises,
    parse=_parse,
    fields=("prompt", *_SIDES, "preference_strength"),
)
