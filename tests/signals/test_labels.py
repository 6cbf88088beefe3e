"""Binary labels, worked out on paper."""

from __future__ import annotations

from attune.signals.labels.thumbs import thumbs
from attune.signals.labels.win_lose import win_lose
from tests.signals.groups import beats, group, rated


def test_thumbs_are_above_or_below_the_middle_of_their_scale() -> None:
    assert thumbs(group(3, ratings=rated(1, 0, "abstain", scale=(0, 1)))).labels == {0: True, 1: False}
    assert thumbs(group(3, ratings=rated(1, 0, "abstain", scale=(0, 1)))).dropped == {"rating: abstained": 1, "response: no rating": 1}
    stars = group(4, ratings=rated(5, 3, 2, 4))
    assert thumbs(stars).labels == {0: True, 2: False, 3: True}
    assert thumbs(stars).dropped == {"response: neither above nor below the middle": 1}
    assert thumbs(stars, middle=4.5).labels == {0: True, 1: False, 2: False, 3: False}


def test_annotators_who_disagree_are_averaged() -> None:
    ratings = [*rated(1, 1, scale=(0, 1), annotator="a"), *rated(1, 0, scale=(0, 1), annotator="b"), *rated(0, scale=(0, 1), annotator="c")]
    assert thumbs(group(2, ratings=ratings)).labels == {0: True}


def test_without_a_scale_the_middle_must_be_given() -> None:
    scored = group(2, scores=[{"reward": 2.0}, {"reward": -1.0}])
    assert thumbs(scored, by="scores").dropped == {"response: no scale is known, and no middle given": 2}
    assert thumbs(scored, by="scores", middle=0.0).labels == {0: True, 1: False}


def test_winners_are_desirable_and_losers_are_not() -> None:
    assert win_lose(group(2, verdicts=[beats(1, 0)])).labels == {0: False, 1: True}
    ranked = win_lose(group(4, verdicts=[beats((0, 2), 1, 3)]))
    assert ranked.labels == {0: True, 2: True, 3: False}
    assert ranked.dropped == {"response: neither first nor last": 1}


def test_all_bad_is_undesirable_and_a_plain_tie_says_nothing() -> None:
    assert win_lose(group(2, verdicts=[beats((0, 1), both_bad=True)])).labels == {0: False, 1: False}
    assert win_lose(group(2, verdicts=[beats((0, 1))])).dropped == {"verdict: tie": 1}


def test_the_majority_decides_and_even_votes_are_counted() -> None:
    assert win_lose(group(2, verdicts=[beats(0, 1), beats(0, 1), beats(1, 0)])).labels == {0: True, 1: False}
    assert win_lose(group(2, verdicts=[beats(0, 1), beats(1, 0)])).dropped == {"response: as often first as last": 2}
