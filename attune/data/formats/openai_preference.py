"""OpenAI's preference fine-tuning format: an input, a preferred output, and one that is not."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Prompt, Response, Source, Verdict
from attune.data import fields, saying, turns
from attune.data.format import Format, Record

_SIDES = ("preferred_output", "non_preferred_output")
_PARALLEL = "parallel_tool_calls"


def _recognises(record: Record) -> bool:
    return isinstance(record.get("input"), dict) and all(side in record for side in _SIDES)


def _parse(record: Record, source: Source) -> Iterator[Group]:
    asked = {f"input.{name}": value for name, value in fields.mapping(record, "input").items()}
    prompt = turns.ask(fields.messages(asked, "input.messages"), {"tools": asked.get("input.tools")})
    parallel = asked.get(f"input.{_PARALLEL}")
    contexts = {name: Prompt(content=one.content, tools=one.tools, meta={} if parallel is None else {_PARALLEL: parallel}) for name, one in prompt.items()}
    others = {name.removeprefix("input."): value for name, value in fields.rest(asked, "input.messages", "input.tools", f"input.{_PARALLEL}").items()}
    yield Group(
        id=fields.own_name(record, "id") or fields.named(contexts),
        contexts=contexts,
        responses=tuple(Response(content=turns.answer(fields.messages(record, side), side)) for side in _SIDES),
        verdicts=(Verdict(tiers=((0,), (1,))),),
        source=source,
        meta=fields.rest(record, "input", *_SIDES, "id") | ({"input": others} if others else {}),
    )


def _write(group: Group) -> Iterator[Record]:
    """Yields a record for every strict comparison; the service takes nothing but turns, tools and whether calls may be parallel."""
    for prompt, better, worse in saying.strict_pairs(group):
        if isinstance(prompt.content, str) or prompt.images:
            raise RecordError("only turns can be said here", field="prompt", value=prompt.content, allowed="messages without images beside them")
        asked = {"messages": list(prompt.content), "tools": list(prompt.tools)}
        asked |= {_PARALLEL: prompt.meta[_PARALLEL]} if _PARALLEL in prompt.meta else {}
        yield {"input": asked, _SIDES[0]: turns.said(better), _SIDES[1]: turns.said(worse)}


FORMAT = Format(
    name="openai_preference",
    title="OpenAI preference fine-tuning data: input, preferred_output, non_preferred_output",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    fields=("input", *_SIDES),
)
