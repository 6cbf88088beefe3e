"""Win rate of one policy against another, ties counted as half, with an interval by prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attune.core.errors import AttuneError
from attune.core.record import Group
from attune.evals.lengths import BUCKETS, TOLERANCE, LengthBucket, length_bucket
from attune.ops.intervals import NUM_RESAMPLES, Estimate, Result, share_estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out when a response of A met a response of B to the same prompt."""

    prompt_id: str
    # comparisons of one prompt are not independent: the interval keeps them together
    outcome: float | None
    # 1: A won, 0.5: tie, 0: B won; None: no verdict (never counted as a tie)
    len_a: int | None = None
    # characters or tokens, one unit throughout; None: unknown
    len_b: int | None = None

    def __post_init__(self) -> None:
        if self.outcome not in (None, 0, 0.5, 1):
            raise AttuneError("an outcome is a win, a tie or a loss", field="outcome", value=self.outcome, allowed="1, 0.5, 0, or None for no verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate(Result):
    """How often A beats B."""

    rate: Estimate
    # mean outcome, a tie counted as half
    wins: int
    ties: int
    losses: int
    num_missing: int
    # comparisons without a verdict, in none of the above
    num_prompts: int
    by_length: Mapping[LengthBucket, Estimate]
    # where A's response is shorter than, similar to or longer than B's; a bucket nobody fell into is absent
    mean_len_a: float
    # NaN: no length is known
    mean_len_b: float

    def __str__(self) -> str:
        lines = [f"win rate {self.rate} over {self.num_prompts} prompts ({self.wins} won, {self.ties} tied, {self.losses} lost, {self.num_missing} missing)"]
        lines += [f"  A {bucket}: {estimate}" for bucket, estimate in self.by_length.items()]
        return "\n".join(lines)


def win_rate(
    comparisons: Sequence[Comparison], *, tolerance: float = TOLERANCE, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> WinRate:
    """Returns the mean outcome over comparisons, with the bootstrap over prompts.

        (wins + ties / 2) / (wins + ties + losses)

    Args:
        comparisons: of A with B, any number a prompt; those without a verdict are counted apart.
        tolerance: see `length_bucket`.
        level, num_resamples, seed: see `bootstrap_interval`; prompts are redrawn with all their comparisons.

    Raises:
        AttuneError: no comparison with a verdict.
    """
    decided = [(comparison, float(comparison.outcome)) for comparison in comparisons if comparison.outcome is not None]
    if not decided:
        raise AttuneError("a win rate needs a comparison with a verdict", field="comparisons", value=len(comparisons), allowed="at least one outcome")
    buckets: dict[LengthBucket, list[tuple[Comparison, float]]] = {bucket: [] for bucket in BUCKETS}
    lengths: list[tuple[int, int]] = []
    for comparison, outcome in decided:
        if comparison.len_a is not None and comparison.len_b is not None:
            buckets[length_bucket(comparison.len_a, comparison.len_b, tolerance=tolerance)].append((comparison, outcome))
            lengths.append((comparison.len_a, comparison.len_b))

    def share(some: Sequence[tuple[Comparison, float]]) -> Estimate:
        outcomes, clusters = [outcome for _, outcome in some], [comparison.prompt_id for comparison, _ in some]
        return share_estimate(outcomes, clusters=clusters, level=level, num_resamples=num_resamples, seed=seed)

    mean_a, mean_b = np.mean(lengths, axis=0) if lengths else (math.nan, math.nan)
    outcomes = [outcome for _, outcome in decided]
    return WinRate(
        rate=share(decided),
        wins=outcomes.count(1.0),
        ties=outcomes.count(0.5),
        losses=outcomes.count(0.0),
        num_missing=len(comparisons) - len(decided),
        num_prompts=len({comparison.prompt_id for comparison, _ in decided}),
        by_length={bucket: share(some) for bucket, some in buckets.items() if some},
        mean_len_a=float(mean_a),
        mean_len_b=float(mean_b),
    )


def outcome_from_scores(score_a: float | None, score_b: float | None, *, tie_threshold: float = 0.0) -> float | None:
    """Returns 1 where score_a - score_b > threshold, 0 where it is below -threshold, else 0.5; None where a score is missing."""
    if not tie_threshold >= 0:
        raise AttuneError("a threshold is not negative", field="tie_threshold", value=tie_threshold, allowed="at least 0, in units of the score")
    if score_a is None or score_b is None:
        return None
    if not (math.isfinite(score_a) and math.isfinite(score_b)):
        raise AttuneError("a score is a finite number", field="score", value=(score_a, score_b), allowed="finite numbers, or None where there is none")
    margin = score_a - score_b
    return 0.5 if abs(margin) <= tie_threshold else float(margin > 0)


def compare_scores(
    scores_a: Mapping[str, Sequence[float | None]],
    scores_b: Mapping[str, Sequence[float | None]],
    *,
    lengths_a: Mapping[str, Sequence[int]] | None = None,
    lengths_b: Mapping[str, Sequence[int]] | None = None,
    tie_threshold: float = 0.0,
) -> list[Comparison]:
    """Compares each sample of A with each sample of B to the same prompt, by their scores.

    Args:
        scores_a, scores_b: prompt id -> a score a sample, the same prompts on both sides; None: not scored.
        lengths_a, lengths_b: prompt id -> a length a sample; both or neither.
        tie_threshold: >= 0, in units of the score.

    Raises:
        AttuneError: prompts or lengths that do not match, a score that is not finite, a negative threshold.
    """
    if scores_a.keys() != scores_b.keys():
        lonely = min(scores_a.keys() ^ scores_b.keys())
        raise AttuneError("both policies answer the same prompts", field="prompt_id", value=lonely, allowed="a prompt with samples of both")
    for scores, lengths in ((scores_a, lengths_a), (scores_b, lengths_b)):
        for prompt_id in scores if lengths is not None else ():
            if lengths is not None and len(lengths.get(prompt_id, ())) != len(scores[prompt_id]):
                raise AttuneError(
                    "one length a sample", field=f"lengths[{prompt_id}]", value=len(lengths.get(prompt_id, ())), allowed=str(len(scores[prompt_id]))
                )
    return [
        Comparison(
            prompt_id=prompt_id,
            outcome=outcome_from_scores(score_a, score_b, tie_threshold=tie_threshold),
            len_a=None if lengths_a is None else lengths_a[prompt_id][index_a],
            len_b=None if lengths_b is None else lengths_b[prompt_id][index_b],
        )
        for prompt_id, samples_a in scores_a.items()
        for index_a, score_a in enumerate(samples_a)
        for index_b, score_b in enumerate(scores_b[prompt_id])
    ]


def compare_groups(groups_a: Sequence[Group], groups_b: Sequence[Group], *, aspect: str, tie_threshold: float = 0.0) -> list[Comparison]:
    """Compares the samples of two policies by a score that their responses carry (`Response.scores[aspect]`); lengths are in characters.

    Args:
        groups_a, groups_b: one group a prompt, matched by id.
        aspect: name of the score; a response without it is missing, not 0.
        tie_threshold: >= 0, in units of the score.

    Raises:
        AttuneError: an id that stands twice, or as `compare_scores`.
    """
    scores: list[dict[str, list[float | None]]] = []
    lengths: list[dict[str, list[int]]] = []
    for groups in (groups_a, groups_b):
        scores.append({group.id: [response.scores.get(aspect) for response in group.responses] for group in groups})
        lengths.append({group.id: [len(response.text) for response in group.responses] for group in groups})
        if len(scores[-1]) != len(groups):
            ids = [group.id for group in groups]
            raise AttuneError("a prompt stands once", field="id", value=next(i for i in ids if ids.count(i) > 1), allowed="one group a prompt")
    return compare_scores(scores[0], scores[1], lengths_a=lengths[0], lengths_b=lengths[1], tie_threshold=tie_threshold)
