"""Win rates counted by hand."""

from __future__ import annotations

import json
import math

import pytest

from attune.core.errors import AttuneError
from attune.core.record import Group, Response
from attune.evals.lengths import length_bucket
from attune.evals.win_rate import Comparison, compare_groups, compare_scores, outcome_from_scores, win_rate
from attune.ops.intervals import wilson_interval


def test_ties_are_half_and_missing_verdicts_are_nothing() -> None:
    outcomes = [1, 1, 0.5, 0, None, 1, 0.5, 1]
    result = win_rate([Comparison(f"p{i}", outcome) for i, outcome in enumerate(outcomes)])
    assert result.rate.value == pytest.approx((4 + 2 / 2) / 7)
    assert (result.wins, result.ties, result.losses, result.num_missing, result.num_prompts, result.rate.num) == (4, 2, 1, 1, 7, 7)
    assert result.by_length == {}
    assert math.isnan(result.mean_len_a)


def test_samples_of_one_prompt_are_kept_together() -> None:
    # ten prompts, each won or lost in all its samples: eight samples a prompt know no more than one
    few = win_rate([Comparison(f"p{i}", i % 2) for i in range(10)])
    many = win_rate([Comparison(f"p{i}", i % 2) for i in range(10) for _ in range(8)])
    assert (many.rate.value, many.rate.low, many.rate.high) == pytest.approx((few.rate.value, few.rate.low, few.rate.high))
    assert (many.rate.num, many.num_prompts) == (80, 10)


def test_the_other_side_has_the_mirrored_rate() -> None:
    outcomes = [1, 0, 0.5, 1, 1, 0, 1, 0.5, 1, 1]
    one, other = (win_rate([Comparison(str(i), side(o)) for i, o in enumerate(outcomes)]).rate for side in (float, lambda o: 1 - o))
    assert (one.value, one.low, one.high) == pytest.approx((1 - other.value, 1 - other.high, 1 - other.low))


def test_winning_everything_is_not_certainty() -> None:
    rate = win_rate([Comparison(str(i), 1) for i in range(25)]).rate
    assert (rate.low, rate.high) == pytest.approx(wilson_interval(25, 25))


def test_length_strata_by_hand() -> None:
    lengths = [(100, 50), (100, 60), (100, 95), (90, 100), (50, 100), (0, 0)]
    result = win_rate([Comparison(str(i), outcome, *pair) for i, (outcome, pair) in enumerate(zip([1, 1, 0, 0.5, 0, 1], lengths, strict=True))])
    assert {bucket: (estimate.value, estimate.num) for bucket, estimate in result.by_length.items()} == {
        "shorter": (0.0, 1),
        "similar": (0.5, 3),
        "longer": (1.0, 2),
    }
    assert (result.mean_len_a, result.mean_len_b) == pytest.approx((440 / 6, 405 / 6))
    assert "A longer: 1.000" in str(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["by_length"]["similar"]["value"] == 0.5


def test_buckets_have_their_bounds_inside() -> None:
    assert [length_bucket(a, 100) for a in (89, 90, 100, 111, 112)] == ["shorter", "similar", "similar", "similar", "longer"]
    assert length_bucket(99, 100, tolerance=0) == "shorter"
    for call in (lambda: length_bucket(-1, 2), lambda: length_bucket(1, 2, tolerance=1.0)):
        with pytest.raises(AttuneError):
            call()


def test_scores_decide_with_a_threshold() -> None:
    assert [outcome_from_scores(a, 1.0, tie_threshold=0.5) for a in (0.4, 0.5, 1.5, 1.6, None)] == [0, 0.5, 0.5, 1, None]
    assert outcome_from_scores(1.0, 1.0) == 0.5
    for call in (
        lambda: outcome_from_scores(1, 2, tie_threshold=-1),
        lambda: outcome_from_scores(1, 2, tie_threshold=math.nan),
        lambda: outcome_from_scores(math.inf, 1),
    ):
        with pytest.raises(AttuneError):
            call()


def test_every_sample_meets_every_sample_of_its_prompt() -> None:
    comparisons = compare_scores({"p": [3.0, 1.0], "q": [0.0]}, {"p": [2.0, None], "q": [0.0, 1.0]})
    assert [(c.prompt_id, c.outcome) for c in comparisons] == [("p", 1), ("p", None), ("p", 0), ("p", None), ("q", 0.5), ("q", 0)]
    result = win_rate(comparisons)
    assert (result.rate.value, result.num_missing) == (pytest.approx(1.5 / 4), 2)


def test_groups_are_matched_by_id_and_a_missing_score_is_not_zero() -> None:
    def group(name: str, *samples: tuple[str, float | None]) -> Group:
        return Group(id=name, responses=tuple(Response(content=text, scores={} if gold is None else {"gold": gold}) for text, gold in samples))

    a, b = [group("p", ("long text", -1.0)), group("q", ("x", 2.0))], [group("q", ("y", 1.0)), group("p", ("t", None))]
    assert compare_groups(a, b, aspect="gold") == [Comparison("p", None, 9, 1), Comparison("q", 1.0, 1, 1)]
    with pytest.raises(AttuneError, match="same prompts"):
        compare_groups(a[:1], b, aspect="gold")
    with pytest.raises(AttuneError, match="stands once"):
        compare_groups([*a, a[0]], b, aspect="gold")


def test_wrong_input_is_refused() -> None:
    for call in (
        lambda: win_rate([]),
        lambda: win_rate([Comparison("p", None)]),
        lambda: Comparison("p", 0.7),
        lambda: compare_scores({"p": [1.0]}, {"p": [1.0]}, lengths_a={"p": []}, lengths_b={"p": [1]}),
    ):
        with pytest.raises(AttuneError):
            call()
