"""How often scores order responses as people did: reward models, and the implicit rewards or likelihoods of a policy."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from attune.core.errors import AttuneError
from attune.core.record import Group
from attune.evals.lengths import BUCKETS, TOLERANCE, LengthBucket, length_bucket
from attune.ops.intervals import NUM_RESAMPLES, Estimate, Result, share_estimate

UNNAMED = "(unnamed)"
"""Stands for verdicts whose annotator the source does not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAccuracy(Result):
    """Agreement of scores with verdicts, pair by pair."""

    accuracy: Estimate | None
    # of pairs with a preferred response, the share whose preferred one scores higher; equal scores are wrong; None: no such pair
    tie_accuracy: Estimate | None
    # of pairs called a tie, the share whose scores differ by at most the threshold; None: no such pair
    by_annotator: Mapping[str, Estimate]
    # `accuracy` a person
    by_length: Mapping[LengthBucket, Estimate]
    # `accuracy` where the preferred response is shorter than, similar to or longer than the other
    num_equal: int
    # pairs with a preferred response but equal scores, counted as wrong
    num_missing: int
    # pairs of which a response has no score, in no share

    def __str__(self) -> str:
        lines = [f"accuracy {self.accuracy or 'unknown, no pair has a preferred response'} ({self.num_equal} with equal scores, {self.num_missing} without)"]
        lines += [f"  ties seen as ties: {self.tie_accuracy}"] if self.tie_accuracy else []
        lines += [f"  annotator {name}: {estimate}" for name, estimate in self.by_annotator.items()]
        lines += [f"  preferred is {bucket}: {estimate}" for bucket, estimate in self.by_length.items()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Pair:
    group: str
    annotator: str
    is_tie: bool
    margin: float | None
    # score of the preferred response (of the first, for a tie) over the other; None: one is not scored
    bucket: LengthBucket | None


def reward_accuracy(
    groups: Sequence[Group],
    scores: Sequence[Sequence[float | None]],
    *,
    annotators: Collection[str | None] | None = None,
    tie_threshold: float = 0.0,
    tolerance: float = TOLERANCE,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> RewardAccuracy:
    """Compares scores with every two responses that a verdict orders or ties.

        right where s_preferred - s_other > 0;   a tie is right where |s_i - s_j| <= threshold

    A verdict over K responses gives all its pairs. Ties never mix with ordered pairs: they are a share of their own.

    Args:
        groups: with verdicts; several annotators may judge one pair, each judgment counts.
        scores: for each group a score a response, in any unit (reward, implicit reward, log-probability); None: not scored.
        annotators: whose verdicts count (None among them: those nobody is named for). None: everybody's.
        tie_threshold: >= 0, in units of the score.
        tolerance: see `length_bucket`; lengths are in characters, and unknown where a text is withheld.
        level, num_resamples, seed: see `bootstrap_interval`; groups are redrawn whole.

    Raises:
        AttuneError: scores that do not fit the groups, a score that is not finite, or no judged pair at all.
    """
    if not tie_threshold >= 0:
        raise AttuneError("a threshold is not negative", field="tie_threshold", value=tie_threshold, allowed="at least 0, in units of the score")
    if len(scores) != len(groups):
        raise AttuneError("one list of scores a group", field="scores", value=len(scores), allowed=str(len(groups)))
    pairs = [pair for group, given in zip(groups, scores, strict=True) for pair in _pairs(group, given, annotators, tolerance)]
    ordered = [pair for pair in pairs if not pair.is_tie and pair.margin is not None]
    tied = [pair for pair in pairs if pair.is_tie and pair.margin is not None]
    if not ordered and not tied:
        raise AttuneError("accuracy needs a pair that was judged and scored", field="verdicts", value=len(pairs), allowed="at least one such pair")

    def share(some: Sequence[_Pair]) -> Estimate:
        right = [_right(pair, tie_threshold) for pair in some]
        return share_estimate(right, clusters=[pair.group for pair in some], level=level, num_resamples=num_resamples, seed=seed)

    names = dict.fromkeys(pair.annotator for pair in ordered)
    by_length = {kind: [pair for pair in ordered if pair.bucket == kind] for kind in BUCKETS}
    return RewardAccuracy(
        accuracy=share(ordered) if ordered else None,
        tie_accuracy=share(tied) if tied else None,
        by_annotator={name: share([pair for pair in ordered if pair.annotator == name]) for name in names},
        by_length={kind: share(some) for kind, some in by_length.items() if some},
        num_equal=sum(pair.margin == 0 for pair in ordered),
        num_missing=len(pairs) - len(ordered) - len(tied),
    )


def _pairs(group: Group, scores: Sequence[float | None], annotators: Collection[str | None] | None, tolerance: float) -> list[_Pair]:
    """Returns each two responses that a verdict names, the preferred one as first."""
    _check_scores(group, scores)
    found = []
    for verdict in group.verdicts:
        if annotators is not None and verdict.annotator not in annotators:
            continue
        name = UNNAMED if verdict.annotator is None else verdict.annotator
        ranked = [(index, tier) for tier, members in enumerate(verdict.tiers) for index in members]
        for (better, tier), (worse, other_tier) in combinations(ranked, 2):
            score, other = scores[better], scores[worse]
            margin = None if score is None or other is None else score - other
            found.append(_Pair(group.id, name, tier == other_tier, margin, _bucket(group, better, worse, tolerance)))
    return found


def _right(pair: _Pair, tie_threshold: float) -> bool:
    assert pair.margin is not None, "pairs without scores are in no share"
    return abs(pair.margin) <= tie_threshold if pair.is_tie else pair.margin > 0


def _check_scores(group: Group, scores: Sequence[float | None]) -> None:
    if len(scores) != len(group.responses):
        raise AttuneError("one score a response", field=f"scores of group {group.id}", value=len(scores), allowed=str(len(group.responses)))
    for score in scores:
        if score is not None and not math.isfinite(score):
            raise AttuneError("a score is a finite number", field=f"scores of group {group.id}", value=score, allowed="a finite number, or None")


def _bucket(group: Group, first: int, second: int, tolerance: float) -> LengthBucket | None:
    a, b = group.responses[first], group.responses[second]
    return None if a.content is None or b.content is None else length_bucket(len(a.text), len(b.text), tolerance=tolerance)
