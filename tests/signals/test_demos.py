"""Responses to imitate, worked out on paper."""

from __future__ import annotations

from attune.signals.demos.demonstrations import demonstrations
from tests.signals.groups import beats, group, rated


def test_a_single_response_is_a_demonstration_and_one_of_several_is_not() -> None:
    assert demonstrations(group(1)).demos == (0,)
    assert demonstrations(group(2)).demos == ()
    assert demonstrations(group(2)).dropped == {"response: one of several, and nothing says which to imitate": 2}
    assert demonstrations(group(3), which="all").demos == (0, 1, 2)


def test_the_best_by_verdicts_is_what_most_put_first() -> None:
    voiced = group(4, verdicts=[beats(1, 0), beats(1, 0), beats(0, 1), beats((2, 0), both_bad=True)])
    assert demonstrations(voiced, which="best").demos == (1,)
    assert demonstrations(voiced, which="best").dropped == {"response: not the best": 1, "response: in no verdict that has a best": 2, "verdict: all bad": 1}
    assert demonstrations(group(2, verdicts=[beats((0, 1), both_bad=True)]), which="best").demos == ()


def test_the_best_by_rating_and_the_limit() -> None:
    stars = group(3, ratings=rated(3, 5, 4))
    assert demonstrations(stars, which="best", by="ratings").demos == (1,)
    assert demonstrations(stars, which="all", by="ratings", above=3).demos == (1, 2)
    assert demonstrations(stars, which="best", by="ratings", above=5).dropped == {"response: not above the limit": 3}
    assert demonstrations(group(1, ratings=rated(2)), above=2, by="ratings").demos == ()


def test_rejection_sampling_keeps_every_solution_that_passes() -> None:
    solved = group(4, scores=[{"passed": 1.0}, {"passed": 0.0}, {}, {"passed": 1.0}])
    kept = demonstrations(solved, which="all", by="scores", above=0.5)
    assert kept.demos == (0, 3)
    assert kept.dropped == {"response: not above the limit": 1, "response: no score": 1}
