"""Short ways to write groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attune.core.record import Group, Prompt, Rating, Response, Verdict


def group(num: int, *, verdicts: Sequence[Verdict] = (), ratings: Sequence[Rating] = (), scores: Sequence[Mapping[str, float]] = ()) -> Group:
    """Returns a group of `num` responses."""
    responses = tuple(Response(content=f"answer {index}", scores=scores[index] if scores else {}) for index in range(num))
    return Group(id="g", contexts={"main": Prompt(content="a question")}, responses=responses, verdicts=tuple(verdicts), ratings=tuple(ratings))


def beats(*tiers: int | tuple[int, ...], annotator: str | None = None, strength: float | None = None, both_bad: bool = False) -> Verdict:
    """Returns a verdict from best to worst; a tuple is a tie."""
    named = tuple((tier,) if isinstance(tier, int) else tier for tier in tiers)
    return Verdict(tiers=named, annotator=annotator, strength=strength, both_bad=both_bad)


def rated(
    *values: float | Literal["abstain"] | None, aspect: str | None = None, scale: tuple[float, float] | None = (1, 5), annotator: str | None = None
) -> list[Rating]:
    """Returns one rating a response, in order; None: not rated."""
    return [Rating(response=index, value=value, aspect=aspect, scale=scale, annotator=annotator) for index, value in enumerate(values) if value is not None]
