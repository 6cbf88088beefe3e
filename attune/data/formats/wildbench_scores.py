"""WildBench's table of scores: one model's score and output length on one session."""

from __future__ import annotations

from attune.data.format import Format, Record
from attune.data.parts import no_groups

_FIELDS = ("model", "session_id", "score", "output_len")


def _recognises(record: Record) -> bool:
    return set(_FIELDS) <= record.keys()


FORMAT = Format(
    name="wildbench_scores",
    title="WildBench score table: a judge's score and the output's length, without texts",
    recognises=_recognises,
    parse=no_groups,
    table=True,
    fields=_FIELDS,
)
