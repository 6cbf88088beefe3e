"""Accuracy of scores against verdicts, counted by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from attune.core.errors import AttuneError
from attune.core.record import Group, Response, Verdict
from attune.evals.reward_accuracy import UNNAMED, reward_accuracy
from attune.ops.intervals import mean_estimate


def group(name: str, num: int, *verdicts: Verdict, texts: tuple[str | None, ...] | None = None) -> Group:
    return Group(id=name, responses=tuple(Response(content=text) for text in texts or ("text",) * num), verdicts=verdicts)


FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)


def test_ordered_pairs_and_ties_are_two_shares() -> None:
    groups = [group(str(i), 2, Verdict(tiers=tiers)) for i, tiers in enumerate([FIRST, FIRST, SECOND, FIRST, TIE, TIE, FIRST])]
    scores = [[2.0, 1.0], [1.0, 2.0], [0.0, 3.0], [1.0, 1.0], [1.0, 1.2], [1.0, 2.0], [None, 1.0]]
    result = reward_accuracy(groups, scores, tie_threshold=0.5)
    assert result.accuracy is not None
    assert (result.accuracy.value, result.accuracy.num) == (2 / 4, 4)  # equal scores do not choose, so they are wrong
    assert result.tie_accuracy is not None
    assert (result.tie_accuracy.value, result.tie_accuracy.num) == (1 / 2, 2)
    assert (result.num_equal, result.num_missing) == (1, 1)
    strict = reward_accuracy(groups, scores)
    assert strict.accuracy == result.accuracy  # the threshold judges ties only
    assert strict.tie_accuracy is not None
    assert strict.tie_accuracy.value == 0.0


def test_a_reward_that_ties_everything_is_never_right() -> None:
    result = reward_accuracy([group(str(i), 2, Verdict(tiers=FIRST)) for i in range(9)], [[0.0, 0.0]] * 9)
    assert result.accuracy is not None
    assert (result.accuracy.value, result.num_equal) == (0.0, 9)


def test_a_ranking_gives_all_its_pairs() -> None:
    groups = [group("k", 4, Verdict(tiers=((2,), (0, 1), (3,))))]
    result = reward_accuracy(groups, [[5.0, 5.0, 9.0, 7.0]])
    # right: 2>0, 2>1, 2>3; wrong: 0>3, 1>3; the tie of 0 and 1 is seen
    assert result.accuracy is not None
    assert result.tie_accuracy is not None
    assert (result.accuracy.value, result.accuracy.num, result.tie_accuracy.value) == (3 / 5, 5, 1.0)


def test_annotators_are_counted_apart_and_can_be_chosen() -> None:
    verdicts = (Verdict(tiers=FIRST, annotator="ann"), Verdict(tiers=SECOND, annotator="bob"), Verdict(tiers=FIRST))
    groups = [group("a", 2, *verdicts), group("b", 2, verdicts[0])]
    result = reward_accuracy(groups, [[1.0, 0.0], [0.0, 1.0]])
    assert {name: (e.value, e.num) for name, e in result.by_annotator.items()} == {"ann": (0.5, 2), "bob": (0.0, 1), UNNAMED: (1.0, 1)}
    only = reward_accuracy(groups, [[1.0, 0.0], [0.0, 1.0]], annotators={"ann", None})
    assert only.accuracy is not None
    assert (only.accuracy.value, only.accuracy.num, list(only.by_annotator)) == (2 / 3, 3, ["ann", UNNAMED])


def test_length_of_the_preferred_response() -> None:
    groups = [
        group("a", 2, Verdict(tiers=FIRST), texts=("long " * 9, "short")),
        group("b", 2, Verdict(tiers=SECOND), texts=("long " * 9, "short")),
        group("c", 2, Verdict(tiers=FIRST), texts=("same", "size")),
        group("d", 2, Verdict(tiers=FIRST), texts=(None, "withheld")),
    ]
    likes_length = [[float(len(response.text)) for response in g.responses] for g in groups]
    result = reward_accuracy(groups, likes_length)
    assert {bucket: e.value for bucket, e in result.by_length.items()} == {"shorter": 0.0, "similar": 0.0, "longer": 1.0}
    assert sum(e.num for e in result.by_length.values()) == 3


def test_the_interval_redraws_groups() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(30) < 0.6
    groups = [group(str(i), 2, *[Verdict(tiers=FIRST, annotator=str(a)) for a in range(4)]) for i in range(30)]
    result = reward_accuracy(groups, [[1.0, 0.0] if r else [0.0, 1.0] for r in right], seed=2)
    expected = mean_estimate(right.astype(float), seed=2)
    assert result.accuracy is not None
    assert (result.accuracy.low, result.accuracy.high) == pytest.approx((expected.low, expected.high))


def test_accuracy_does_not_change_when_scores_rise_by_prompt() -> None:
    rng = np.random.default_rng(1)
    groups = [group(str(i), 3, Verdict(tiers=((0,), (1,), (2,)))) for i in range(20)]
    scores = rng.normal(size=(20, 3))
    moved = np.exp(scores) + 100 * rng.normal(size=(20, 1))
    assert reward_accuracy(groups, scores.tolist()).accuracy == reward_accuracy(groups, moved.tolist()).accuracy


def test_it_reads_well_and_turns_into_json() -> None:
    result = reward_accuracy([group("a", 2, Verdict(tiers=TIE))], [[1.0, 1.0]])
    assert result.accuracy is None
    assert "unknown" in str(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["accuracy"] is None


def test_wrong_input_is_refused() -> None:
    groups = [group("a", 2, Verdict(tiers=FIRST))]
    for scores, options in (([], {}), ([[1.0]], {}), ([[1.0, math.nan]], {}), ([[1.0, None]], {}), ([[1.0, 0.0]], {"tie_threshold": -1.0})):
        with pytest.raises(AttuneError):
            reward_accuracy(groups, scores, **options)
