"""One result in a run's evals.json: the form that the report reads."""

from __future__ import annotations

from typing import Any, Literal

from attune.ops.intervals import Estimate


def entry(
    kind: Literal["win_rate", "accuracy", "mean", "length"],
    title: str,
    estimate: Estimate,
    *,
    unit: str,
    better: Literal["high", "low"] | None = None,
    baseline: float | None = None,
    before: Estimate | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Returns a result with its interval as JSON types.

    Args:
        kind: what is measured, which decides how it is drawn.
        title: what is measured, in words.
        estimate: the number and its interval.
        unit: of the number.
        better: which direction is good; None: neither.
        baseline: the value of no difference, if there is one.
        before: the same before training; None: not measured.
        note: a further line.
    """
    rest = {"unit": unit, "better": better, "baseline": baseline, "before": before.to_dict() if before else None, "note": note}
    return {"kind": kind, "title": title, **estimate.to_dict(), **rest}
