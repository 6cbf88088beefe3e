"""Agreement of a judge with gold labels and with itself in the other order, and of ratings with rankings by the same annotator.

A verdict on two responses is written 1 (the first is better), 2 (the second) or 0 (a tie); None is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from attune.core.errors import AttuneError
from attune.core.record import Group
from attune.data.parts import GOLD
from attune.ops.agreement import cohen_kappa
from attune.ops.intervals import NUM_RESAMPLES, Estimate, Result, share_estimate

_WRITTEN = {1: 1, -1: 2, 0: 0}  # Verdict.order -> how a verdict is written here


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One pair that a judge saw in both orders."""

    gold: int
    given: int | None
    # the verdict in the given order
    swapped: int | None
    # the verdict in the other order, counted by the same responses: equal verdicts are equal numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStatistics(Result):
    """How right a judge is and how little the order of the two responses matters to it."""

    correct_given: Estimate
    correct_swapped: Estimate
    correct_average: Estimate
    correct_both: Estimate
    equal: Estimate
    # share with the same verdict in both orders
    kappa_given: Estimate
    # with the gold labels
    kappa_swapped: Estimate
    kappa_average: float
    kappa_agreement: Estimate
    # between the two orders
    num_missing: int
    # trials that lack a verdict in one order or both; never right, and not in `equal` and the kappas unless as published

    def __str__(self) -> str:
        lines = [f"correct: given order {self.correct_given}; swapped {self.correct_swapped}; both {self.correct_both}"]
        lines += [f"same verdict in both orders: {self.equal}; kappa {self.kappa_agreement}"]
        return "\n".join([*lines, f"kappa with gold {self.kappa_average:.3f}; {self.num_missing} trials lack a verdict"])


def trial_from_llmbar(row: Mapping[str, Any]) -> Trial:
    """Returns the trial in a record of LLMBar's evaluator results; a winner that is neither "1" nor "2" is no verdict.

    Raises:
        AttuneError: a record without a label of 1 or 2, or without results in both orders.
    """
    label, results = row.get("label"), row.get("results")
    last = results[-1] if isinstance(results, list) and results else None
    sides = [last[f"swap = {swap}"] for swap in (False, True) if f"swap = {swap}" in last] if isinstance(last, Mapping) else []
    if label not in (1, 2) or len(sides) != 2:
        raise AttuneError("a record of a judge has a gold label and results in both orders", field="label, results", value=label, allowed="label 1 or 2")
    given, swapped = ({"1": 1, "2": 2}.get(side.get("winner")) for side in sides)
    return Trial(gold=label, given=given, swapped=swapped)


def trials_from_groups(groups: Sequence[Group], *, judge: str, gold: str = GOLD) -> list[Trial]:
    """Returns the trials of one judge: each two responses with a gold label, in the order of their group.

    Args:
        groups: those the judge was asked about; where it says nothing on a pair with a gold label, the trial lacks its verdict. Best as
            read record by record: joined by prompt, one pair may have been judged several times, which is refused.
        judge: `Verdict.annotator` of the judge, whose verdicts say in which order the two were presented.
        gold: `Verdict.annotator` of the label held to be true.

    Raises:
        AttuneError: a verdict of the judge that does not say the order, or a pair with two verdicts in one order or two gold labels.
    """
    trials = []
    for group in groups:
        said: dict[tuple[int, ...], int] = {}
        truth: dict[tuple[int, ...], int] = {}
        for verdict in group.verdicts:
            pair = tuple(index for tier in verdict.tiers for index in tier)
            if len(pair) != 2 or verdict.annotator not in (judge, gold):
                continue
            first, second = sorted(pair)
            shown = (first, second) if verdict.annotator == gold else verdict.presented
            known = truth if verdict.annotator == gold else said
            if shown is None or shown in known:
                field, mend = f"group {group.id}, verdict.presented", "read the file with group_equal=False"
                raise AttuneError("a judge is compared across orders", field=field, value=shown, allowed="each order of a pair once", mend=mend)
            known[shown] = _WRITTEN[verdict.order(first, second) or 0]
        trials += [Trial(gold=label, given=said.get((i, j)), swapped=said.get((j, i))) for (i, j), label in truth.items()]
    return trials


def judge_statistics(
    trials: Sequence[Trial], *, as_published: bool = False, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> JudgeStatistics:
    """Compares a judge with gold labels and with itself.

    Args:
        trials: at least one.
        as_published: follow LLMBar's own script in two habits: no verdict in either order counts as the same verdict, and kappa
            is taken after every verdict but 1 has become 0 (the gold labels stay). Accuracies are the same either way.
        level, num_resamples, seed: see `bootstrap_interval`; trials are redrawn.

    Raises:
        AttuneError: no trial, or (unless as published) none with a verdict in both orders.

    Source: Zeng et al. 2023, Evaluating Large Language Models at Evaluating Instruction Following (arXiv 2310.07641).
    """
    if not trials:
        raise AttuneError("a judge is measured on trials", field="trials", value=0, allowed="at least one")
    share = partial(share_estimate, level=level, num_resamples=num_resamples, seed=seed)
    kappa = partial(cohen_kappa, level=level, num_resamples=num_resamples, seed=seed)
    complete = [trial for trial in trials if trial.given is not None and trial.swapped is not None]
    compared = trials if as_published else complete
    # LLMBar's script keeps verdict 1 and calls all else 0 before it takes kappa
    given = [int(trial.given == 1) if as_published else trial.given for trial in compared]
    swapped = [int(trial.swapped == 1) if as_published else trial.swapped for trial in compared]
    gold = [trial.gold for trial in compared]
    kappa_given, kappa_swapped = kappa(given, gold), kappa(swapped, gold)
    return JudgeStatistics(
        correct_given=share([trial.given == trial.gold for trial in trials]),
        correct_swapped=share([trial.swapped == trial.gold for trial in trials]),
        correct_average=share([((trial.given == trial.gold) + (trial.swapped == trial.gold)) / 2 for trial in trials]),
        correct_both=share([trial.given == trial.gold == trial.swapped for trial in trials]),
        equal=share([trial.given == trial.swapped for trial in compared]),
        kappa_given=kappa_given,
        kappa_swapped=kappa_swapped,
        kappa_average=(kappa_given.value + kappa_swapped.value) / 2,
        kappa_agreement=kappa(given, swapped),
        num_missing=len(trials) - len(complete),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolConsistency(Result):
    """Whether an annotator's ratings order responses as the same annotator's verdicts do."""

    consistent: Estimate
    # share of pairs where both say the same, ties included
    contradictory: Estimate
    # share where each prefers the other response; what is neither is a tie on one side only
    table: Mapping[str, Mapping[str, int]]
    # what the ratings imply -> what the verdict says -> pairs; each "first", "second" or "tie"
    num_unrated: int
    # judged pairs of which the annotator did not rate both, in no share

    def __str__(self) -> str:
        return f"ratings agree with verdicts {self.consistent}; contradict {self.contradictory}; {self.num_unrated} pairs not rated"


def protocol_consistency(groups: Sequence[Group], *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> ProtocolConsistency:
    """Compares ratings with verdicts on every pair for which one annotator gave both.

        consistent where sign(rating_i - rating_j) is the verdict's sign, 0 standing for a tie

    Args:
        groups: with ratings and verdicts. Several overall ratings of one content by one annotator are averaged; rated aspects and
            abstentions do not count.
        level, num_resamples, seed: see `bootstrap_interval`; groups are redrawn whole.

    Raises:
        AttuneError: no pair that was both rated and judged.

    Source: Bansal, Dang and Grover 2023, Peering Through Preferences (arXiv 2308.15812), section 2.
    """
    words = {1: "first", -1: "second", 0: "tie"}
    table = {said: dict.fromkeys(words.values(), 0) for said in words.values()}
    found: list[tuple[int, int, int]] = []
    num_unrated = 0
    for number, group in enumerate(groups):
        for verdict in group.verdicts:
            rated = _mean_ratings(group, verdict.annotator)
            for first, second in combinations(sorted(index for tier in verdict.tiers for index in tier), 2):
                order = verdict.order(first, second)
                assert order is not None, "both stand in the verdict"
                if first not in rated or second not in rated:
                    num_unrated += 1
                    continue
                implied = (rated[first] > rated[second]) - (rated[first] < rated[second])
                table[words[implied]][words[order]] += 1
                found.append((number, implied, order))
    if not found:
        raise AttuneError("consistency needs a pair that one annotator rated and judged", field="groups", value=len(groups), allowed="at least one such pair")
    share = partial(share_estimate, clusters=[number for number, _, _ in found], level=level, num_resamples=num_resamples, seed=seed)
    return ProtocolConsistency(
        consistent=share([implied == order for _, implied, order in found]),
        contradictory=share([implied * order == -1 for _, implied, order in found]),
        table=table,
        num_unrated=num_unrated,
    )


def _mean_ratings(group: Group, annotator: str | None) -> dict[int, float]:
    """Returns response -> mean overall rating by the annotator; responses with equal content share their ratings."""
    values: dict[str, list[float]] = {}
    content = [f"withheld {index}" if response.content is None else repr(response.content) for index, response in enumerate(group.responses)]
    for rating in group.ratings:
        if rating.annotator == annotator and rating.aspect is None and rating.value != "abstain":
            values.setdefault(content[rating.response], []).append(float(rating.value))
    return {index: math.fsum(values[key]) / len(values[key]) for index, key in enumerate(content) if key in values}
