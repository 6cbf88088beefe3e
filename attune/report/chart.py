"""The geometry of a line chart: numbers in, coordinates and words out. The template only draws what is decided here.

A line has at most MOST points: beyond, neighbours are put together, the line is their mean and a band shows the smallest and the largest.
A long noisy line is drawn faintly, with its moving average over it. Values that are not finite make gaps and are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from attune.report.words import number, percent

WIDTH, HEIGHT = 360, 210
RIGHT, TOP, BOTTOM = 10, 10, 26
"""Room in the drawing's units beside, above and below the plot; on the left as much as the labels need."""

MOST = 240
"""Points that one line is drawn with."""

TABLE_ROWS = 10

_DIGIT = 7.2  # width of a digit at the label's size, in a wide face
_SMOOTH_FROM = 40  # points below which a moving average would hide more than it shows

_PLAIN = (1e-3, 1e6)  # largest ticks between which no powers of ten are needed

Points = Sequence[tuple[float, float | None]]
"""(update, value); None where the value was not finite."""


@dataclass(frozen=True, slots=True)
class Series:
    """One named curve."""

    label: str
    points: Points
    kind: Literal["line", "dots"] = "line"
    # dots: few values that each matter, such as evaluations
    tone: int = 0
    # which of the page's line styles, from 0


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis: what its ends mean and where they lie."""

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[tuple[float, str], ...]
    # position, label

    def at(self, value: float) -> float:
        """Returns the position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve as it is drawn."""

    label: str
    kind: Literal["line", "dots"]
    tone: int
    line: str
    # path of the line itself
    faint: str
    # path of the unsmoothed line; empty when that is the line
    band: str
    # path around smallest and largest; empty when no points were put together
    dots: tuple[tuple[float, float], ...]
    hover: tuple[tuple[float, float, str, str], ...]
    # x, y, update, value of every point that is drawn


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws."""

    title: str
    unit: str
    x: Scale
    y: Scale
    zero: float | None
    # position of a line to compare with (no change, chance), or None
    drawn: tuple[Drawn, ...]
    said: str
    # the chart in a sentence or two, for those who cannot see it
    gaps: tuple[str, ...]
    # curves with values that are not finite
    manners: tuple[str, ...]
    # how lines stand for values; the same for many charts
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    # a small table of the same values

    width: int = WIDTH
    height: int = HEIGHT

    @property
    def legend(self) -> tuple[Drawn, ...]:
        """One curve of each line style, where there are several styles."""
        styles = {one.tone: one for one in reversed(self.drawn)}
        return tuple(styles[tone] for tone in sorted(styles)) if len(styles) > 1 else ()


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns rising multiples of 1, 2 or 5 times a power of ten, about so many, the first at or below `low`, the last at or above `high`."""
    rough = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def value_scale(values: Sequence[float], include: Sequence[float], *, share: bool, start: float, stop: float, about: int = 5) -> Scale:
    """Returns an axis that holds all values and what else is to be seen, from tick to tick."""
    low, high = min((*values, *include)), max((*values, *include))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(high) / 2 or 1.0
        low, high = low - pad, high + pad
    ticks = nice_ticks(low, high, about)
    step = ticks[1] - ticks[0]
    decimals = max(0, math.ceil(-math.log10(step * (100 if share else 1)) - 1e-9))
    axis = Scale(ticks[0], ticks[-1], start, stop, ())
    labels = [percent(tick, decimals) if share else _tick(tick, step, max(map(abs, ticks)), decimals) for tick in ticks]
    return Scale(axis.low, axis.high, start, stop, tuple((round(axis.at(tick), 1), label) for tick, label in zip(ticks, labels, strict=True)))


def update_scale(first: float, last: float, *, start: float, stop: float) -> Scale:
    """Returns the axis of updates: from the first to the last, with whole numbers at the ticks."""
    low, high = (first, last) if last > first else (first - 1, last + 1)
    axis = Scale(low, high, start, stop, ())
    ticks = [tick for tick in nice_ticks(low, high) if tick == int(tick) and low <= tick <= high]
    return Scale(low, high, start, stop, tuple((round(axis.at(tick), 1), number(int(tick))) for tick in ticks))


def chart(
    title: str,
    unit: str,
    series: Sequence[Series],
    updates: tuple[float, float],
    *,
    include: Sequence[float] = (),
    compare: float | None = None,
    share: bool = False,
) -> Chart | None:
    """Returns a chart of curves over updates, or None where no value is finite.

    Args:
        title: what is shown.
        unit: of the values.
        series: the curves; those without a finite value are left out.
        updates: first and last update of the axis.
        include: values that the axis always shows.
        compare: a value to draw a line at; it is included.
        share: whether values are shares, shown in per cent.
    """
    kept = [one for one in series if any(value is not None for _, value in one.points)]
    if not kept:
        return None
    values = [value for one in kept for _, value in one.points if value is not None]
    shown = (*include, *(() if compare is None else (compare,)))
    y = value_scale(values, shown, share=share, start=HEIGHT - BOTTOM, stop=TOP)
    left = round(8 + _DIGIT * max(len(label) for _, label in y.ticks), 1)
    x = update_scale(*updates, start=left, stop=WIDTH - RIGHT)
    return Chart(
        title=title,
        unit="per cent" if share else unit,
        x=x,
        y=y,
        zero=None if compare is None else round(y.at(compare), 1),
        drawn=tuple(_drawn(one, x, y, share=share) for one in kept),
        said=" ".join(_said(one, share=share) for one in kept),
        gaps=tuple(gap for one in kept if (gap := _gaps(one))),
        manners=tuple(dict.fromkeys(manner for one in kept for manner in _manners(one))),
        header=("update", *(one.label for one in kept)),
        rows=_rows(kept, share=share),
    )


def bucketed(points: Points) -> list[tuple[float, float, float, float] | None]:
    """Returns (update, mean, smallest, largest) for at most MOST runs of neighbours; None is a gap."""
    size = math.ceil(len(points) / MOST)
    found: list[tuple[float, float, float, float] | None] = []
    for begin in range(0, len(points), size):
        held = [(update, value) for update, value in points[begin : begin + size] if value is not None]
        values = [value for _, value in held]
        found.append((fmean(update for update, _ in held), fmean(values), min(values), max(values)) if held else None)
    return found


def smoothed(values: Sequence[float]) -> list[float]:
    """Returns the centred moving average over about a twelfth of the values; it narrows towards the ends."""
    reach = max(2, len(values) // 24)
    found = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        found.append(fmean(values[index - near : index + near + 1]))
    return found


def path(points: Sequence[tuple[float, float] | None]) -> str:
    """Returns the path of a line through points, to a tenth of a unit.

    A gap lifts the pen; a point alone gets a line of no length, which a round cap makes a dot.
    """
    segments: list[list[str]] = [[]]
    for point in points:
        if point is None:
            segments.append([])
        else:
            segments[-1].append(f"{point[0]:.1f} {point[1]:.1f}")
    return "".join("M" + "L".join(segment) + ("h0" if len(segment) == 1 else "") for segment in segments if segment)


def _drawn(one: Series, x: Scale, y: Scale, *, share: bool) -> Drawn:
    buckets = bucketed(one.points)
    places = [None if bucket is None else (x.at(bucket[0]), y.at(bucket[1])) for bucket in buckets]
    held = [place for place in places if place is not None]
    whole = len(held) == len(places)
    averaged = one.kind == "line" and whole and len(held) >= _SMOOTH_FROM
    line = path(list(zip([px for px, _ in held], smoothed([py for _, py in held]), strict=True))) if averaged else path(places)
    together = len(one.points) > MOST
    edge = [bucket for bucket in buckets if bucket is not None]
    upper, lower = [(x.at(b[0]), y.at(b[3])) for b in edge], [(x.at(b[0]), y.at(b[2])) for b in edge]
    return Drawn(
        label=one.label,
        kind=one.kind,
        tone=one.tone,
        line=line,
        faint=path(places) if averaged and not together else "",
        band=path(upper + lower[::-1]) + "Z" if together and whole else "",
        dots=tuple((round(px, 1), round(py, 1)) for px, py in held) if one.kind == "dots" else (),
        hover=tuple((round(x.at(b[0]), 1), round(y.at(b[1]), 1), number(round(b[0])), shown(b[1], share=share)) for b in edge),
    )


def shown(value: float | None, *, share: bool) -> str:
    """Returns a value as tables and tooltips write it: per cent with two decimals, whole numbers whole, others with five significant digits."""
    if share:
        return percent(value, 2)
    return number(int(value) if value is not None and value.is_integer() else value, 5)


def _tick(value: float, step: float, largest: float, decimals: int) -> str:
    """Returns a tick's label: with the decimals that tell neighbours apart, or as a power of ten where all ticks are small or some are large."""
    if _PLAIN[0] <= largest < _PLAIN[1]:
        return f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "\u2212")
    return number(value, math.ceil(math.log10(largest / step) - 1e-9) + 1) if value else "0"


def _gaps(one: Series) -> str:
    gaps = sum(value is None for _, value in one.points)
    return f"{one.label}: {gaps} of {len(one.points)} values were not finite and are gaps." if gaps else ""


def _manners(one: Series) -> list[str]:
    if one.kind == "dots":
        return ["Circles are held-out data."]
    found = []
    if len(one.points) > MOST:
        found.append(f"Each point of a line is the mean of {math.ceil(len(one.points) / MOST)} updates; bands run from the smallest to the largest.")
    if min(len(one.points), MOST) >= _SMOOTH_FROM and not _gaps(one):
        found.append("Strong lines are moving averages." if found else "Strong lines are moving averages, faint ones every update.")
    return found


def _said(one: Series, *, share: bool) -> str:
    held = [(update, value) for update, value in one.points if value is not None]
    (first, begun), (last, ended) = held[0], held[-1]
    values = [value for _, value in held]
    if len(held) == 1:
        return f"{one.label}: {shown(begun, share=share)} at update {number(int(first))}."
    ends = f"from {shown(begun, share=share)} at update {number(int(first))} to {shown(ended, share=share)} at update {number(int(last))}"
    return f"{one.label}: {ends}; smallest {shown(min(values), share=share)}, largest {shown(max(values), share=share)}."


def _rows(kept: Sequence[Series], *, share: bool) -> tuple[tuple[str, ...], ...]:
    """Returns values at updates spread evenly over all there are, the first and the last among them."""
    columns: list[Mapping[float, float | None]] = [dict(one.points) for one in kept]
    updates = sorted({update for column in columns for update in column})
    last = len(updates) - 1
    chosen = sorted({round(index * last / (TABLE_ROWS - 1)) for index in range(TABLE_ROWS)}) if last >= TABLE_ROWS else range(last + 1)
    found = []
    for update in (updates[index] for index in chosen):
        cells = (shown(column[update], share=share) if update in column else "" for column in columns)
        found.append((number(int(update)), *cells))
    return tuple(found)
