"""One number a response, out of what people rated or programs scored."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Literal

from attune.core.record import Group

By = Literal["ratings", "scores"]
Scale = tuple[float, float] | None
_OVERALL = None


def numbers(group: Group, *, by: By, aspect: str | None) -> tuple[dict[int, float], Scale, Counter[str]]:
    """Returns response -> number, the scale of the numbers, and what was left out.

    Several annotators are averaged within an aspect. Without `aspect`, the overall rating counts where there is one, otherwise the
    mean over the aspects; a response that lacks one of them has no number, since a mean over fewer aspects is no comparable mean.

    Args:
        group: responses with ratings or scores.
        by: "ratings" (people or judges, `Group.ratings`) or "scores" (programs or models, `Response.scores`).
        aspect: which one; None: overall.
    """
    dropped: Counter[str] = Counter()
    said = _ratings(group, dropped) if by == "ratings" else _scores(group)
    aspects = {name for _, name, _, _ in said}
    wanted = {aspect} if aspect is not None else ({_OVERALL} if _OVERALL in aspects else aspects)
    used = [entry for entry in said if entry[1] in wanted]
    kind = by.removesuffix("s")
    dropped[f"{kind}: on another aspect"] += len(said) - len(used)
    scales = {scale for _, _, _, scale in used}
    if len(scales) > 1:
        dropped[f"{kind}: on different scales within one group"] += len(used)
        return {}, None, +dropped
    values: dict[int, dict[str | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for response, name, value, _ in used:
        values[response][name].append(value)
    found = {}
    for response in range(len(group.responses)):
        if len(values[response]) == len(wanted & aspects) > 0:
            means = [sum(column) / len(column) for column in values[response].values()]
            found[response] = sum(means) / len(means)
        else:
            dropped[f"response: no {kind}" if not values[response] else f"response: no {kind} on some aspect"] += 1
    return found, next(iter(scales), None), +dropped


def _ratings(group: Group, dropped: Counter[str]) -> list[tuple[int, str | None, float, Scale]]:
    said = []
    for rating in group.ratings:
        if rating.value == "abstain":
            dropped["rating: abstained"] += 1
        else:
            said.append((rating.response, rating.aspect, float(rating.value), rating.scale))
    return said


def _scores(group: Group) -> list[tuple[int, str | None, float, Scale]]:
    return [(index, name, float(value), None) for index, response in enumerate(group.responses) for name, value in response.scores.items()]
