"""Writing alignment rankings (creativity_eval): three versions of one paragraph, each annotator's full ranking, in the order shown."""

from __future__ import annotations

from attune.core.errors import RecordError
from attune.core.record import Group, Response, Source, Verdict
from attune.data import fields
from attune.data.format import Format, Record
from attune.data.parts import asked, below

_RANKS = ("rank_1", "rank_2", "rank_3")


def _recognises(record: Record) -> bool:
    return {"responses", "mapping", *_RANKS} <= record.keys()


def _parse(record: Record, source: Source) -> tuple[Group]:
    texts = fields.items(record, "responses")
    shown = tuple(f"Response {number}" for number in range(1, len(texts) + 1))
    ranked = [shown.index(fields.choice(record, rank, shown)) for rank in _RANKS]
    if sorted(ranked) != list(range(len(texts))):
        raise RecordError(
            "a ranking names each response once", field="rank_1, rank_2, rank_3", value=[record[rank] for rank in _RANKS], allowed=", ".join(shown)
        )
    makers = fields.mapping(record, "mapping")
    with below("mapping"):
        generators = [fields.text(makers, name) for name in shown]
    return (
        Group(
            id="creativity-" + fields.text(record, "id"),
            contexts=asked(fields.text(record, "instruction")),
            responses=tuple(
                Response(content=fields.as_text(text, f"responses[{index}]"), generator=generator)
                for index, (text, generator) in enumerate(zip(texts, generators, strict=True))
            ),
            verdicts=(
                Verdict(
                    tiers=tuple((index,) for index in ranked),
                    presented=tuple(range(len(texts))),
                    annotator=fields.text(record, "annotator"),
                ),
            ),
            source=source,
            meta=fields.rest(record, *_RANKS, "id", "instruction", "responses", "mapping", "annotator"),
        ),
    )


FORMAT = Format(
    name="creativity_rankings",
    title="creativity_eval preference rankings: three paragraphs ranked by an annotator, in the order shown",
    recognises=_recognises,
    parse=_parse,
    fields=("instruction", "responses", "mapping", "annotator", *_RANKS),
)
