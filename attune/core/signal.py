"""What feedback becomes before it meets a model: pairs, labels, scores and demonstrations, by response index within one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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


def joined(signals: Sequence[Signal]) -> Signal:
    """Returns one signal that says what all of them say: pairs behind each other, demonstrations once, later labels and scores before earlier ones."""
    if len(signals) == 1:
        return signals[0]
    dropped: Counter[str] = Counter()
    for signal in signals:
        dropped.update(signal.dropped)
    return Signal(
        pairs=tuple(pair for signal in signals for pair in signal.pairs),
        demos=tuple(sorted({index for signal in signals for index in signal.demos})),
        labels={index: label for signal in signals for index, label in signal.labels.items()},
        scores={index: score for signal in signals for index, score in signal.scores.items()},
        dropped=dict(dropped),
    )
