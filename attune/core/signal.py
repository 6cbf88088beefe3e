"""What feedback becomes before it meets a model: pairs, labels, scores and demonstrations, by response index within one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two responses of one group and which is preferred."""

    first: int
    second: int
    target: float = 1.0
    # probability that the first is preferred; 0.5 for a tie
    tie: bool = False
    strength: float | None = None
    # how much better, in the source's unit; None: not said
    annotator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one group says to an objective, and what it could not say."""

    pairs: tuple[Pair, ...] = ()
    demos: tuple[int, ...] = ()
    # responses to imitate
    labels: Mapping[int, bool] = field(default_factory=dict)
    # response -> desirable
    scores: Mapping[int, float] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    # reason -> how many verdicts, pairs or ratings were left out for it

    @property
    def responses(self) -> tuple[int, ...]:
        """The responses that any part of the signal speaks of, rising."""
        named = {index for pair in self.pairs for index in (pair.first, pair.second)}
        return tuple(sorted(named | set(self.demos) | set(self.labels) | set(self.scores)))
