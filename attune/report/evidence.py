"""Results of evaluations: what was measured, how sure, and the verdict that follows, in words and in positions from 0 to 100 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from attune.report.chart import value_scale
from attune.report.words import counted, finite, measured, number, percent

EVEN = 0.5
"""The win rate of two equal policies."""

_SHARES = ("win_rate", "accuracy")
_BEFORE, _AFTER = "start", "trained"

Standing = Literal["better", "worse", "unsettled", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One evaluation as its file states it."""

    name: str
    kind: str
    title: str
    value: float
    low: float | None
    high: float | None
    # ends of the interval; None: there is none
    level: float | None
    num: int | None
    # what was counted; None: not said
    unit: str
    note: str
    better: str | None
    # high, low, or None where neither is
    baseline: float | None
    # the value that means no difference; None: there is none
    before: Result | None = None
    # the same before training; None: it was not measured

    @property
    def share(self) -> bool:
        """Whether the value is a share, shown in per cent."""
        return self.kind in _SHARES and all(0 <= end <= 1 for end in (self.value, self.low, self.high) if end is not None)

    @property
    def said(self) -> str:
        return measured(self.value, self.unit, share=self.share)

    @property
    def bare(self) -> str:
        """The value where its unit stands beside it."""
        return measured(self.value, "", share=self.share)

    @property
    def interval(self) -> str:
        """The interval in words; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        ends = f"{percent(self.low)} to {percent(self.high)}" if self.share else f"{number(self.low)} to {number(self.high)}"
        return f"{self.level * 100:g}\u202f% interval {ends}" if self.level else f"interval {ends}"

    @property
    def standing(self) -> Standing:
        """Where the whole interval lies: beyond the baseline (and beyond the interval before training, where there is one) on one side, or not."""
        if self.baseline is None or self.better not in ("high", "low") or self.low is None or self.high is None:
            return "unknown"
        lows, highs = [self.baseline], [self.baseline]
        if self.before is not None and self.before.low is not None and self.before.high is not None:
            lows, highs = [*lows, self.before.low], [*highs, self.before.high]
        if self.low > max(highs):
            return "better" if self.better == "high" else "worse"
        if self.high < min(lows):
            return "worse" if self.better == "high" else "better"
        return "unsettled"


@dataclass(frozen=True, slots=True)
class Mark:
    """A result as a row of an axis; positions are per cent of the axis."""

    result: Result
    label: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """Results that share an axis."""

    title: str
    unit: str
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    baseline: float | None
    # position of no difference; None: there is none
    change: str
    # from before to after, in words; empty for results that are not such a pair

    @property
    def said(self) -> str:
        rows = []
        for mark in self.marks:
            interval = f" ({mark.result.interval})" if mark.result.interval else ""
            rows.append(f"{mark.label or 'value'}: {mark.result.said}{interval}")
        return "; ".join(rows) + "."


def results(held: Mapping[str, Any]) -> list[Result]:
    """Returns the evaluations in a file's order; an entry without a finite value is left out (see `unread`)."""
    return [found for name, entry in held.items() if (found := _result(str(name), entry)) is not None]


def unread(held: Mapping[str, Any]) -> list[str]:
    """Returns the names of entries that hold no finite value."""
    return [str(name) for name, entry in held.items() if _result(str(name), entry) is None]


def panels(found: Sequence[Result]) -> list[Panel]:
    """Returns one panel a result; NAME_start and NAME_trained share one, and so do a result and what it was before training."""
    by_name = {result.name: result for result in found}
    made = []
    for result in found:
        stem, _, end = result.name.rpartition("_")
        before, after = by_name.get(f"{stem}_{_BEFORE}"), by_name.get(f"{stem}_{_AFTER}")
        if end in (_BEFORE, _AFTER) and before and after and (before.kind, before.unit) == (after.kind, after.unit):
            if result is before:
                made.append(pair(_shared_title(before.title, after.title) or _titled(stem.replace("_", " ")), before, after))
        elif result.before is not None:
            made.append(pair(result.title, result.before, result))
        else:
            made.append(_panel(result.title, (result,), ("",), change=""))
    return made


def pair(title: str, before: Result, after: Result) -> Panel:
    """Returns the panel of a quantity before and after training."""
    step = after.value - before.value
    moved = "rose" if step > 0 else "fell" if step < 0 else "did not move"
    size = f"{number(abs(step) * 100, 3)} percentage points" if before.share and after.share else measured(abs(step), before.unit)
    change = f"It {moved} by {size}" if step else f"It {moved}"
    apart = _apart(before, after)
    change += "." if apart is None else "; the two intervals do not overlap." if apart else "; the two intervals overlap."
    return _panel(title, (before, after), (_BEFORE, _AFTER), change=change)


def _apart(before: Result, after: Result) -> bool | None:
    """Returns whether two intervals do not overlap; None where one is not known."""
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return None
    return before.high < after.low or after.high < before.low


def _shared_title(first: str, second: str) -> str:
    """Returns what two titles begin with, up to a comma: `score, start` and `score, trained` are about the score."""
    if first == second:
        return first
    head, comma, _ = first.rpartition(",")
    return head if comma and second.rpartition(",")[0] == head else ""


def _titled(said: str) -> str:
    """Returns a title with a capital, unless it starts with the name of a stage."""
    return said if said.partition(" ")[0].endswith(":") else said[:1].upper() + said[1:]


def _panel(title: str, rows: Sequence[Result], labels: Sequence[str], *, change: str) -> Panel:
    share = all(row.share for row in rows)
    values = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    baseline = rows[-1].baseline
    include = (0.0, 1.0) if share else () if baseline is None else (baseline,)
    axis = value_scale(values, include, share=share, start=0.0, stop=100.0, about=4)

    def place(value: float | None) -> float | None:
        return None if value is None else round(axis.at(value), 2)

    marks = tuple(Mark(row, label, round(axis.at(row.value), 2), place(row.low), place(row.high)) for row, label in zip(rows, labels, strict=True))
    return Panel(title, "" if share else rows[0].unit, marks, axis.ticks, place(baseline), change)


def _result(name: str, entry: Any) -> Result | None:
    """Returns an entry of evals.json; None where it holds no finite value."""
    if not isinstance(entry, dict) or (value := finite(entry.get("value"))) is None:
        return None
    kind, num = str(entry.get("kind") or ""), entry.get("num")
    low, high, baseline = finite(entry.get("low")), finite(entry.get("high")), finite(entry.get("baseline"))
    if low is None or high is None:
        low = high = None
    win_rate = kind == "win_rate"
    return Result(
        name=name,
        kind=kind,
        title=_titled(str(entry.get("title") or name.replace("_", " "))),
        value=value,
        low=low,
        high=high,
        level=finite(entry.get("level")),
        num=num if isinstance(num, int) and not isinstance(num, bool) else None,
        unit=str(entry.get("unit") or ""),
        note=str(entry.get("note") or ""),
        better=entry.get("better") or ("high" if win_rate else None),
        baseline=EVEN if baseline is None and win_rate else baseline,
        before=_result(name, {**entry, "before": None, **entry["before"]}) if isinstance(entry.get("before"), dict) else None,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the first screen says."""

    standing: Standing
    headline: str
    sentence: str
    cautions: tuple[str, ...]


def verdict(found: Sequence[Result], *, ended: bool) -> Verdict:
    """Returns what a reader in a hurry must know: it worked, it did not, it is not settled, or nobody looked.

    A win rate by the gold reward decides; without one the first win rate; without any, how well preferences that were held out are ranked by a reward
    (a model's, or the policy's implicit one), which is something else and said so. What significantly points the other way is a caution.
    """
    decisive = sorted((result for result in found if result.standing != "unknown"), key=_rank)
    if not decisive:
        headline = "Trained; not yet judged." if ended else "Not finished."
        return Verdict("unknown", headline, "No evaluation in this run compares it with a baseline, so whether it worked is not known.", ())
    first = decisive[0]
    cautions = _cautions(first, found)
    ranks = first.kind == "accuracy"
    words = ("It learned the preference.", "It learned the opposite.") if ranks else ("It worked.", "It got worse.")
    headline = {"better": words[0], "worse": words[1], "unsettled": "Not settled."}[first.standing]
    if ranks and first.name != "accuracy_reward":
        cautions.insert(0, "This says what was learned from the feedback; whether responses are better was not measured, which takes a win rate.")
    return Verdict(first.standing, headline, _sentence(first), tuple(cautions))


def _rank(result: Result) -> int:
    """Returns a place in the order in which results decide; the lowest decides."""
    if result.kind == "win_rate":
        return 0 if "gold" in result.name else 1
    return 2 if result.name.endswith("reward") else 3


def _sentence(first: Result) -> str:
    assert first.baseline is not None
    assert first.low is not None
    assert first.high is not None
    round_share = first.share and first.baseline * 100 == round(first.baseline * 100)
    base = percent(first.baseline, 0) if round_share else measured(first.baseline, first.unit, share=first.share)
    place = "lies wholly above" if first.low > first.baseline else "lies wholly below" if first.high < first.baseline else "includes"
    count = "" if first.num is None else f" over {counted(first.num, 'comparison' if first.kind == 'win_rate' else 'observation')}"
    said = f"{first.title}: {first.said}. The {first.interval}{count} {place} {base}, the mark of no difference"
    if first.before is None:
        return f"{said}."
    apart = {True: "the two intervals do not overlap", False: "the two intervals overlap", None: "without an interval"}[_apart(first.before, first)]
    return f"{said}. Before training it was {first.before.said}; {apart}."


def _cautions(first: Result, found: Sequence[Result]) -> list[str]:
    said = [
        f"{result.title} points the other way: {result.said}."
        for result in found
        if result.kind == "win_rate" and result is not first and {result.standing, first.standing} == {"better", "worse"}
    ]
    for panel in panels(found):
        if len(panel.marks) == 2 and panel.marks[1].result.better in ("high", "low"):
            before, after = (mark.result for mark in panel.marks)
            gained = (after.value - before.value) * (1 if after.better == "high" else -1)
            if _apart(before, after) and gained * {"better": 1, "worse": -1}.get(first.standing, 0) < 0:
                said.append(f"{panel.title} moved the other way, from {before.said} to {after.said}.")
    return said
