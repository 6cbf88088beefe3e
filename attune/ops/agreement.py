"""How far annotators agree: Cohen's, Fleiss's and Krippendorff's coefficients, each with an interval by item, and agreement across orders.

Letters: N items, Q labels, R resamples. A label may be anything hashable; None is missing, never a label of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attune.core.errors import AttuneError
from attune.ops.intervals import NUM_RESAMPLES, UNKNOWN, Estimate, FloatArray, Result, Statistic, bootstrap_interval, divided, share_estimate

Label = Hashable | None


def agreement_share(first: Sequence[Label], second: Sequence[Label], *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Estimate:
    """Returns the share of items on which two annotators say the same; items that either left out do not count.

    Raises:
        AttuneError: lengths that differ, or no item that both labelled.
    """
    pairs = _both(first, second)
    return share_estimate([a == b for a, b in pairs], level=level, num_resamples=num_resamples, seed=seed)


def cohen_kappa(
    first: Sequence[Label],
    second: Sequence[Label],
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    labels: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Agreement of two annotators beyond what their label frequencies give by chance.

        kappa = 1 - sum_ab v_ab o_ab / sum_ab v_ab p_a q_b

    with o the joint and p, q the marginal label shares, and v_ab = [a != b], |a - b| or (a - b)^2 on label positions.

    Args:
        first, second: labels of the same items, [N]; items that either left out (None) do not count.
        weights: how disagreement grows with the distance of the labels; None: every disagreement counts 1.
        labels: the labels in their order; needed for weights unless labels are numbers (then sorted). A label nobody used shifts positions.
        level, num_resamples, seed: see `bootstrap_interval`; items are redrawn.

    Returns:
        value in [-1, 1]; NaN where both used one and the same label only.

    Raises:
        AttuneError: lengths that differ, no item labelled by both, a label outside `labels`, or an order that is not known.

    Source: Cohen, Educational and Psychological Measurement 20 (1960); weights: Psychological Bulletin 70 (1968).
    """
    pairs = _both(first, second)
    position = _positions([label for pair in pairs for label in pair], labels, ordered=weights is not None)
    q = len(position)
    a_N, b_N = (np.array([position[pair[side]] for pair in pairs]) for side in (0, 1))
    a_NQ, b_NQ = np.eye(q)[a_N], np.eye(q)[b_N]
    distance_QQ = np.abs(np.subtract.outer(np.arange(q), np.arange(q))).astype(np.float64)
    cost_QQ = {None: np.sign(distance_QQ), "linear": distance_QQ, "quadratic": distance_QQ**2}[weights]
    cost_N = cost_QQ[a_N, b_N]

    def statistic(weight_RN: FloatArray) -> FloatArray:
        total_R = weight_RN.sum(axis=1)
        chance_R = ((weight_RN @ a_NQ) @ cost_QQ * (weight_RN @ b_NQ)).sum(axis=1) / np.square(total_R)
        return _one_minus(weight_RN @ cost_N / total_R, chance_R)

    return _estimate(statistic, len(pairs), level, num_resamples, seed)


def fleiss_kappa(ratings: Sequence[Sequence[Label]], *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Estimate:
    """Agreement of m annotators an item, who need not be the same people, beyond chance.

        kappa = (P - E) / (1 - E),   P = mean_i (sum_q n_iq^2 - m) / (m (m - 1)),   E = sum_q p_q^2

    Args:
        ratings: for each item the m >= 2 labels it got, in any order; none missing.
        level, num_resamples, seed: see `bootstrap_interval`; items are redrawn.

    Returns:
        value in [-1, 1]; NaN where only one label occurs.

    Raises:
        AttuneError: no item, items with different numbers of labels or missing ones (`krippendorff_alpha` takes those).

    Source: Fleiss, Psychological Bulletin 76 (1971).
    """
    num = len(ratings[0]) if ratings else 0
    for index, item in enumerate(ratings):
        if len(item) != num or num < 2 or any(label is None for label in item):
            mend = "krippendorff_alpha takes missing labels"
            raise AttuneError(
                "every item has the same number of labels", field=f"ratings[{index}]", value=list(item), allowed="at least 2, none missing", mend=mend
            )
    if not ratings:
        raise AttuneError("agreement needs at least one item", field="ratings", value=list(ratings))
    count_NQ = _counts(ratings, _positions([label for item in ratings for label in item], None, ordered=False))
    agree_N = (np.square(count_NQ).sum(axis=1) - num) / (num * (num - 1))

    def statistic(weight_RN: FloatArray) -> FloatArray:
        total_R = weight_RN.sum(axis=1)
        share_RQ = weight_RN @ count_NQ / (num * total_R)[:, None]
        return _one_minus(1 - weight_RN @ agree_N / total_R, 1 - np.square(share_RQ).sum(axis=1))

    return _estimate(statistic, len(ratings), level, num_resamples, seed)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Label]],
    *,
    metric: Literal["nominal", "ordinal", "interval"] = "nominal",
    labels: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Agreement of any number of annotators, with labels missing at will.

        alpha = 1 - (n - 1) sum_i sum_{a != b in i} d(a, b)^2 / (m_i - 1)  /  sum_{a != b of all} d(a, b)^2

    over the n labels of items with m_i >= 2 labels; d is [a != b], the distance in mid-ranks among all n labels, or a - b.

    Args:
        ratings: for each item its labels, one place an annotator; None where one did not label it.
        metric: what a difference means.
        labels: the labels from low to high for `ordinal`; None: they are numbers.
        level, num_resamples, seed: see `bootstrap_interval`; items are redrawn.

    Returns:
        value at most 1, 0 at chance; NaN where only one label occurs. `num` counts the items with two labels or more.

    Raises:
        AttuneError: no item with two labels, or labels without an order where the metric needs one.

    Source: Krippendorff, Content Analysis (2004), chapter 11.
    """
    paired = [[label for label in item if label is not None] for item in ratings]
    paired = [item for item in paired if len(item) > 1]
    if not paired:
        raise AttuneError("agreement needs an item that two annotators labelled", field="ratings", value=len(ratings), allowed="at least one such item")
    position = _positions([label for item in paired for label in item], labels, ordered=metric != "nominal")
    if metric == "interval" and not all(_is_number(label) for label in position):
        raise AttuneError("an interval scale is made of numbers", field="ratings", value=next(x for x in position if not _is_number(x)), allowed="numbers")
    count_NQ = _counts(paired, position)
    num_N = count_NQ.sum(axis=1)
    value_Q = np.array(list(position), dtype=np.float64) if metric == "interval" else np.zeros(len(position))
    # alpha does not change when the scale is moved or stretched; values near 0 and 1 lose no digits
    value_Q = (value_Q - value_Q.mean()) / (float(np.ptp(value_Q)) or 1.0)

    def statistic(weight_RN: FloatArray) -> FloatArray:
        count_RQ = weight_RN @ count_NQ
        num_R = count_RQ.sum(axis=1)
        if metric == "nominal":
            within_N = np.square(num_N) - np.square(count_NQ).sum(axis=1)
            observed_R = weight_RN @ (within_N / (num_N - 1))
            chance_R = np.square(num_R) - np.square(count_RQ).sum(axis=1)
        else:
            # the ordinal distance is the distance of mid-ranks, which move with the resample
            midrank_RQ = (np.cumsum(count_RQ, axis=1) - count_RQ / 2) / num_R[:, None] - 0.5
            place_RQ = midrank_RQ if metric == "ordinal" else value_Q[None, :]
            within_RN = num_N * (np.square(place_RQ) @ count_NQ.T) - np.square(place_RQ @ count_NQ.T)
            observed_R = (weight_RN * 2 * within_RN / (num_N - 1)).sum(axis=1)
            chance_R = 2 * (num_R * (count_RQ * np.square(place_RQ)).sum(axis=1) - np.square((count_RQ * place_RQ).sum(axis=1)))
        return _one_minus((num_R - 1) * observed_R / np.square(num_R), chance_R / np.square(num_R))

    return _estimate(statistic, len(paired), level, num_resamples, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConsistency(Result):
    """Whether verdicts survive when the two responses change places."""

    consistent: Estimate
    # share of items with the same verdict in both orders
    first_shown: Estimate
    # mean outcome of whichever response was shown first: 0.5 without position bias, above it the first place wins
    num_missing: int
    # items that lack a verdict in one order or both; in neither share

    def __str__(self) -> str:
        return f"same verdict in both orders {self.consistent}; first shown wins {self.first_shown}; {self.num_missing} without both verdicts"


def order_consistency(
    given: Sequence[float | None], swapped: Sequence[float | None], *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> OrderConsistency:
    """Compares verdicts on the same pairs (A, B) shown as A, B and as B, A.

    Args:
        given: outcome of A when shown first: 1 it wins, 0.5 tie, 0 it loses, None no verdict; [N].
        swapped: outcome of the same A when shown second, [N].
        level, num_resamples, seed: see `bootstrap_interval`; items are redrawn.

    Raises:
        AttuneError: lengths that differ, or no item with both verdicts.
    """
    pairs = [(float(a), float(b)) for a, b in _both(given, swapped) if isinstance(a, int | float) and isinstance(b, int | float)]
    first_shown = [(a + 1 - b) / 2 for a, b in pairs]
    return OrderConsistency(
        consistent=share_estimate([a == b for a, b in pairs], level=level, num_resamples=num_resamples, seed=seed),
        first_shown=share_estimate(first_shown, level=level, num_resamples=num_resamples, seed=seed),
        num_missing=len(given) - len(pairs),
    )


def _both(first: Sequence[Label], second: Sequence[Label]) -> list[tuple[Hashable, Hashable]]:
    if len(first) != len(second):
        raise AttuneError("two annotators label the same items", field="second", value=len(second), allowed=f"{len(first)} labels")
    pairs: list[tuple[Hashable, Hashable]] = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        raise AttuneError("agreement needs an item that both labelled", field="first, second", value=len(first), allowed="at least one such item")
    return pairs


def _positions(seen: Sequence[Label], labels: Sequence[Hashable] | None, *, ordered: bool) -> dict[Hashable, int]:
    if labels is None:
        distinct = list(dict.fromkeys(label for label in seen if label is not None))
        if ordered:
            unordered = [label for label in distinct if not _is_number(label)]
            if unordered:
                raise AttuneError("labels without an order", field="labels", value=unordered[0], allowed="numbers, or give labels from low to high")
            distinct = np.unique(np.array(distinct, dtype=np.float64)).tolist()
        return {label: index for index, label in enumerate(distinct)}
    position = {label: index for index, label in enumerate(labels)}
    unknown = [label for label in seen if label not in position]
    if unknown:
        raise AttuneError("a label that is not among the labels given", field="labels", value=unknown[0], allowed=", ".join(map(repr, labels)))
    return position


def _is_number(label: Label) -> bool:
    return isinstance(label, int | float) and math.isfinite(label)


def _counts(items: Sequence[Sequence[Label]], position: dict[Hashable, int]) -> FloatArray:
    count_NQ = np.zeros((len(items), len(position)))
    for index, item in enumerate(items):
        for label in item:
            count_NQ[index, position[label]] += 1
    return count_NQ


def _one_minus(observed_R: FloatArray, chance_R: FloatArray) -> FloatArray:
    return 1 - divided(observed_R, chance_R, chance_R > 1e-12)


def _estimate(statistic: Statistic, num: int, level: float, num_resamples: int, seed: int) -> Estimate:
    value = float(statistic(np.ones((1, num)))[0])
    low, high = UNKNOWN if math.isnan(value) else bootstrap_interval(statistic, num, level=level, num_resamples=num_resamples, seed=seed)
    return Estimate(value=value, low=low, high=high, num=num, level=level, method=f"percentile bootstrap over {num} items")
