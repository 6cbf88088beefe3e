"""Binary labels from ratings or scores."""

from __future__ import annotations

from attune.core.record import Group
from attune.core.signal import Signal
from attune.signals._numbers import By, numbers


def thumbs(group: Group, *, middle: float | None = None, by: By = "ratings", aspect: str | None = None) -> Signal:
    """Labels a response desirable if its number lies above a middle and undesirable if below; exactly on it, it says neither.

    Args:
        group: responses with ratings or scores.
        middle: in the unit of the numbers; None: half-way up the ratings' scale (0.5 for thumbs, 3 for 1 to 5).
        by: "ratings", averaged over annotators, or "scores" of programs and models.
        aspect: which one; None: the overall one, or else the mean over aspects.

    Returns:
        Labels; abstained and absent ratings are counted as left out.
    """
    values, scale, dropped = numbers(group, by=by, aspect=aspect)
    if middle is None and scale is not None:
        middle = (scale[0] + scale[1]) / 2
    labels = {}
    for response, value in values.items():
        if middle is None:
            dropped["response: no scale is known, and no middle given"] += 1
        elif value == middle:
            dropped["response: neither above nor below the middle"] += 1
        else:
            labels[response] = value > middle
    return Signal(labels=labels, dropped=dict(dropped))
