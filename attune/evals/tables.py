"""Published result tables of WildBench, as rows: judge scores with output lengths, and counts of wins, ties and losses.

The tables hold numbers without texts, so they are read as plain rows (one mapping a record) and never become groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import ndtri

from attune.core.errors import AttuneError
from attune.ops.intervals import NUM_RESAMPLES, Estimate, Result, check_level, mean_estimate

MIDDLE = 5.0
"""The score of 1 to 10 that WildBench takes for neither good nor bad."""

_REWARDS = {"win_much": 1.0, "win": 0.5, "tie": 0.0, "lose": -0.5, "lose_much": -1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary(Result):
    """One model's scores from one judge."""

    model: str
    mean: Estimate
    # 1 to 10, over all outputs, empty ones included
    adjusted: Estimate
    # (mean - 5) * 2
    num: int
    num_empty: int
    mean_length: float
    # characters, over outputs that are not empty; NaN: all are

    def __str__(self) -> str:
        length = "unknown" if math.isnan(self.mean_length) else f"{self.mean_length:.1f}"
        return f"{self.model}: score {self.mean}, adjusted {self.adjusted.value:.3f}, mean length {length} ({self.num_empty} empty)"


def score_summaries(rows: Iterable[Mapping[str, Any]], *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, ScoreSummary]:
    """Sums up a table of scores by model.

    Args:
        rows: each with `model`, `score` (a number, or its text) and `output_len` (characters of the stripped output).
        level, num_resamples, seed: see `bootstrap_interval`; items are redrawn.

    Returns:
        model -> summary, in order of first mention.

    Raises:
        AttuneError: a row that lacks a field or holds no number in it, or no row.
    """
    of_model: dict[str, list[tuple[float, float]]] = {}
    for index, row in enumerate(rows):
        of_model.setdefault(str(row.get("model")), []).append((_number(row, "score", index), _number(row, "output_len", index)))
    if not of_model:
        raise AttuneError("a table has rows", field="rows", value=0, allowed="at least one")
    summaries = {}
    for model, values in of_model.items():
        mean = mean_estimate([score for score, _ in values], level=level, num_resamples=num_resamples, seed=seed)
        lengths = [length for _, length in values if length > 0]
        summaries[model] = ScoreSummary(
            model=model,
            mean=mean,
            adjusted=replace(mean, value=(mean.value - MIDDLE) * 2, low=(mean.low - MIDDLE) * 2, high=(mean.high - MIDDLE) * 2),
            num=len(values),
            num_empty=len(values) - len(lengths),
            mean_length=math.fsum(lengths) / len(lengths) if lengths else math.nan,
        )
    return summaries


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseReward(Result):
    """One model against one reference, from counts."""

    model: str
    reference: str
    reward: Estimate
    # in [-1, 1]
    num: int
    num_unjudged: int
    # items of the total that are in no count; they weigh as 0, as in the source

    def __str__(self) -> str:
        return f"{self.model} against {self.reference}: reward {self.reward} ({self.num_unjudged} unjudged)"


def pairwise_reward(row: Mapping[str, Any], *, level: float = 0.95, index: int = 0) -> PairwiseReward:
    """Returns the mean reward of a row of counts.

        (win_much + win / 2 - lose / 2 - lose_much) / total

    with the normal interval from the variance of the counted rewards.

    Args:
        row: with `win_much`, `win`, `tie`, `lose`, `lose_much`, `total`; `model` and `reference` are names.
        level: in (0, 1).
        index: of the row in its table, for error messages.

    Raises:
        AttuneError: a missing or impossible count, or level out of range.
    """
    check_level(level)
    counts = {name: _number(row, name, index) for name in _REWARDS}
    total = _number(row, "total", index)
    counted = sum(counts.values())
    if not (total > 0 and counted <= total and min(counts.values()) >= 0):
        raise AttuneError(
            "counts add up to at most the total", field=f"rows[{index}].total", value=total, allowed=f"at least {max(counted, 1):g}, no count below 0"
        )
    mean = sum(_REWARDS[name] * count for name, count in counts.items()) / total
    variance = sum(_REWARDS[name] ** 2 * count for name, count in counts.items()) / total - mean**2
    half = float(ndtri((1 + level) / 2)) * math.sqrt(variance / total)
    return PairwiseReward(
        model=str(row.get("model")),
        reference=str(row.get("reference")),
        reward=Estimate(value=mean, low=mean - half, high=mean + half, num=int(total), level=level, method="normal"),
        num=int(total),
        num_unjudged=int(total - counted),
    )


def _number(row: Mapping[str, Any], name: str, index: int) -> float:
    given = row.get(name)
    try:
        number = float(given) if isinstance(given, int | float | str) and not isinstance(given, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AttuneError("a table holds numbers", field=f"rows[{index}].{name}", value=given, allowed="a finite number")
    return number
