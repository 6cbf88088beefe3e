"""Simulated annotators: what they would answer follows from a utility, and the chance of every answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import exp
from random import Random

from attune.core.errors import ConfigError
from attune.core.record import Group, Verdict

Utility = Callable[[Group, int], float]
"""How good response `i` of a group is, in any unit; the fields of an annotator are in the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """Somebody who compares two responses by their utilities, with logistic noise."""

    id: str
    temperature: float = 1.0
    # scale of the noise in a difference of utilities, in their unit; 0: none
    tie_threshold: float = 0.0
    # noisy differences up to this are called a tie, in the utility's unit
    noise: float = 0.0
    # probability in [0, 1] that a verdict (not a tie) is given the wrong way round
    position_bias: float = 0.0
    # added to the utility of what is shown first; negative: prefers the second

    def __post_init__(self) -> None:
        for name, value, top in (("temperature", self.temperature, None), ("tie_threshold", self.tie_threshold, None), ("noise", self.noise, 1)):
            if value < 0 or (top is not None and value > top):
                raise ConfigError("out of range", field=f"annotator.{name}", value=value, allowed=f"0 to {top}" if top else "at least 0")

    def chances(self, difference: float) -> tuple[float, float, float]:
        """The chances of each answer.

            W = sigma((d + b - c) / T),   S = sigma((-d - b - c) / T),   first = (1-e) W + e S,   second = (1-e) S + e W

        With b = e = 0 this is Rao and Kupper's model with log theta = c / T; with c = 0 too it is Bradley and Terry's.

        Args:
            difference: d, the utility of what is shown first less that of the second.

        Returns:
            Probabilities that the first wins, of a tie, and that the second wins; they sum to 1.
        """
        first, second = self._honest(difference + self.position_bias)
        decided = (1 - self.noise) * first + self.noise * second
        return decided, max(0.0, 1 - first - second), (1 - self.noise) * second + self.noise * first

    def _honest(self, difference: float) -> tuple[float, float]:
        """Returns the chances of the first and of the second, before any is turned round."""
        return _sigmoid(difference - self.tie_threshold, self.temperature), _sigmoid(-difference - self.tie_threshold, self.temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class DavidsonAnnotator(Annotator):
    """Somebody who ties as Davidson's model says: the chance of a tie is as the root of the two chances of winning.

    W : tie : S = exp(d/2T) : nu : exp(-d/2T),  nu = 2t / (1-t)
    """

    tie_rate: float = 1 / 3
    # t, the probability of a tie between equals, in [0, 1)

    def __post_init__(self) -> None:
        Annotator.__post_init__(self)
        if self.temperature == 0 or not 0 <= self.tie_rate < 1:
            raise ConfigError("out of range", field="annotator", value=self, allowed="temperature above 0, tie_rate from 0 to below 1")

    def _honest(self, difference: float) -> tuple[float, float]:
        half = difference / (2 * self.temperature)
        top = abs(half)  # taken off every exponent, so that none overflows
        win, lose, tie = exp(half - top), exp(-half - top), 2 * self.tie_rate / (1 - self.tie_rate) * exp(-top)
        return win / (win + lose + tie), lose / (win + lose + tie)


def judge(groups: Sequence[Group], annotators: Sequence[Annotator], utility: Utility, *, num_pairs: int | None = None, seed: int = 0) -> list[Group]:
    """Lets each annotator compare pairs of responses of each group.

    All annotators see the same pairs, each in an order of their own. Equal texts are not compared. What is drawn depends on the seed
    and on the names of the group and the annotator only, so other groups or annotators change nothing.

    Args:
        groups: with their responses; verdicts they have are kept.
        annotators: with distinct ids.
        utility: what the annotators judge by.
        num_pairs: pairs drawn from each group without replacement; None: all of them.
        seed: of the pairs, the orders and the verdicts.

    Returns:
        The groups with one verdict for each pair and annotator.
    """
    return [replace(group, verdicts=group.verdicts + _verdicts(group, annotators, utility, num_pairs, seed)) for group in groups]


def _verdicts(group: Group, annotators: Sequence[Annotator], utility: Utility, num_pairs: int | None, seed: int) -> tuple[Verdict, ...]:
    texts = [response.text for response in group.responses]
    pairs = [(first, second) for first, second in combinations(range(len(texts)), 2) if texts[first] != texts[second]]
    if num_pairs is not None and num_pairs < len(pairs):
        pairs = sorted(Random(f"{seed}/{group.id}").sample(pairs, num_pairs))
    value = {index: utility(group, index) for index in {index for pair in pairs for index in pair}}
    return tuple(_verdict(pair, value, annotator, Random(f"{seed}/{group.id}/{annotator.id}/{pair}")) for pair in pairs for annotator in annotators)


def _verdict(pair: tuple[int, int], value: dict[int, float], annotator: Annotator, random: Random) -> Verdict:
    shown = pair if random.random() < 0.5 else pair[::-1]
    win, tie, _ = annotator.chances(value[shown[0]] - value[shown[1]])
    draw = random.random()
    best, worst = shown if draw < win else shown[::-1]
    tiers = (pair,) if win <= draw < win + tie else ((best,), (worst,))
    return Verdict(tiers=tiers, presented=shown, annotator=annotator.id)


def _sigmoid(difference: float, temperature: float) -> float:
    if temperature == 0:
        return float(difference > 0)
    x = difference / temperature
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
