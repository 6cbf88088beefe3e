"""WildBench's table of comparisons: how often a model won against a reference, at one length margin."""

from __future__ import annotations

from attune.data.format import Format, Record
from attune.data.parts import no_groups

_FIELDS = ("model", "reference", "K", "win_much", "win", "tie", "lose", "lose_much", "total", "reward")


def _recognises(record: Record) -> bool:
    return set(_FIELDS) <= record.keys()


FORMAT = Format(
    name="wildbench_pairwise",
    title="WildBench comparison table: win, tie and lose counts against a reference, without texts",
    recognises=_recognises,
    parse=no_groups,
    table=True,
    fields=_FIELDS,
)
