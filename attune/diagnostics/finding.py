"""What a probe hands back: one sentence with its number, how bad it is, the records it is about, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from attune.core.record import Group
from attune.data.group import ALSO
from attune.ops.intervals import Estimate, Result

Level = Literal["ok", "note", "warn", "error"]
"""ok: looked at and right; note: good to know; warn: may spoil training; error: training would be wrong."""

LEVELS: tuple[Level, ...] = ("ok", "note", "warn", "error")
"""The levels, rising."""

WRONG = 0.05
"""Share of labels above which contradictory or meaningless ones stop being noise and make training wrong."""

_MOST, _LEAST, _DRAWS = 1000, 200, 20_000_000  # resamples of a bootstrap, and the clusters redrawn in all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref(Result):
    """Points at one group, or at one record that became none."""

    id: str | None
    # the group's; None: the record has no name of its own
    file: str | None
    line: int | None
    # 1-based; the row number in Parquet
    detail: str = ""
    # what exactly is meant
    joined: tuple[str, ...] = ()
    # file:line of further records that were joined into the same group

    @property
    def place(self) -> str:
        """file:line, or what of it is known."""
        return ":".join(str(part) for part in (self.file, self.line) if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Result):
    """What one probe found."""

    name: str
    # the probe's, or the probe's and a part of it
    level: Level
    headline: str
    # one sentence with the number
    numbers: Mapping[str, Any] = field(default_factory=dict)
    # plain data and Estimates
    records: tuple[Ref, ...] = ()
    # all that are concerned
    mend: str = ""
    # what to do about it; "": nothing


def ref(group: Group, detail: str = "") -> Ref:
    """Returns a reference to a group and to every record that was joined into it."""
    source = group.source
    joined = tuple(":".join(str(also[key]) for key in ("file", "line") if also.get(key) is not None) for also in group.meta.get(ALSO, ()))
    return Ref(id=group.id, file=source.file if source else None, line=source.line if source else None, detail=detail, joined=joined)


def worst(levels: Iterable[Level]) -> Level:
    """Returns the highest of several levels; "ok" for none."""
    return max(levels, key=LEVELS.index, default="ok")


def graded(num: int, total: int, *, error_above: float = WRONG) -> Level:
    """Returns how bad it is that `num` of `total` are wrong: ok for none, error above a share, warn between."""
    if not num:
        return "ok"
    return "error" if num > error_above * total else "warn"


def resamples(num_clusters: int) -> int:
    """Returns how many bootstrap resamples a doctor can afford for so many clusters: 1,000, fewer where there are very many of them."""
    return max(_LEAST, min(_MOST, _DRAWS // max(1, num_clusters)))


def percent(estimate: Estimate) -> str:
    """Returns a share as people write it: 61.2 % [58.0, 64.3]."""
    ends = "interval unknown" if estimate.low != estimate.low else f"{100 * estimate.low:.1f}, {100 * estimate.high:.1f}"
    return f"{100 * estimate.value:.1f} % [{ends}]"


def many(num: int, one: str, more: str | None = None) -> str:
    """Returns a number with its noun: "1 pair", "3 pairs", "1,234 entries"."""
    return f"{num:,} {one if num == 1 else more or one + 's'}"
