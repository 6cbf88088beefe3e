"""Pairs from verdicts, ratings and scores, each list worked out on paper; what makes no pair is counted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from attune.core.record import Verdict
from attune.core.signal import Pair
from attune.signals.pairs.adjacent_ranks import adjacent_ranks
from attune.signals.pairs.all_pairs import all_pairs
from attune.signals.pairs.best_worst import best_worst
from attune.signals.pairs.threshold import threshold
from attune.signals.pairs.vote import vote
from tests.signals.groups import beats, group, rated


def tie(first: int, second: int, annotator: str | None = None) -> Pair:
    return Pair(first=first, second=second, target=0.5, tie=True, annotator=annotator)


def test_a_ranking_implies_every_pair_and_ties_are_dropped_with_a_count() -> None:
    ranked = group(4, verdicts=[beats(2, (0, 3), 1, annotator="ann", strength=2)])
    won = tuple(Pair(first=first, second=second, annotator="ann") for first, second in ((2, 0), (2, 3), (2, 1), (0, 1), (3, 1)))
    assert set(all_pairs(ranked).pairs) == set(won)  # a strength speaks of two tiers alone
    assert all_pairs(ranked).dropped == {"pair: tie": 1}
    assert set(all_pairs(ranked, ties="keep").pairs) == {*won, tie(0, 3, "ann")}
    assert all_pairs(ranked, ties="keep").dropped == {}


def test_verdicts_that_repeat_or_contradict_each_other_keep_their_pairs() -> None:
    voiced = group(2, verdicts=[beats(0, 1, annotator="a", strength=1.5), beats(0, 1, annotator="b"), beats(1, 0, annotator="c"), beats((0, 1), annotator="d")])
    assert all_pairs(voiced).pairs == (
        Pair(first=0, second=1, strength=1.5, annotator="a"),
        Pair(first=0, second=1, annotator="b"),
        Pair(first=1, second=0, annotator="c"),
    )
    assert all_pairs(voiced, ties="keep").pairs[-1] == tie(0, 1, "d")


def test_one_criterion_at_a_time() -> None:
    both = group(2, verdicts=[Verdict(tiers=((0,), (1,)), criterion="helpful"), Verdict(tiers=((1,), (0,)), criterion="safe")])
    assert all_pairs(both, criterion="safe").pairs == (Pair(first=1, second=0),)
    assert all_pairs(both, criterion="safe").dropped == {"verdict: on another criterion": 1}
    assert len(all_pairs(both).pairs) == 2


def test_a_group_without_verdicts_is_counted() -> None:
    assert all_pairs(group(2)).dropped == {"group: no verdict": 1}


def test_best_against_worst() -> None:
    ranked = group(4, verdicts=[beats((0, 2), 1, 3)])
    assert best_worst(ranked).pairs == (Pair(first=0, second=3), Pair(first=2, second=3))
    assert best_worst(ranked).dropped == {"pair: not best against worst": 4}
    level = group(2, verdicts=[beats((0, 1))])
    assert best_worst(level).dropped == {"pair: tie": 1}
    assert best_worst(level, ties="keep").pairs == (tie(0, 1),)


def test_best_against_worst_by_mean_score_as_ultrafeedback_is_binarised() -> None:
    scored = group(3, scores=[{"helpful": 4.0, "honest": 5.0}, {"helpful": 2.0, "honest": 2.0}, {"helpful": 3.0, "honest": 3.0}])
    assert best_worst(scored, by="scores").pairs == (Pair(first=0, second=1, strength=2.5),)
    assert best_worst(scored, by="scores", aspect="helpful").pairs == (Pair(first=0, second=1, strength=2.0),)


def test_neighbours() -> None:
    ranked = group(4, verdicts=[beats(3, (0, 1), 2)])
    assert adjacent_ranks(ranked).pairs == (Pair(first=3, second=0), Pair(first=3, second=1), Pair(first=0, second=2), Pair(first=1, second=2))
    assert adjacent_ranks(ranked).dropped == {"pair: not of adjacent ranks": 1, "pair: tie": 1}
    assert tie(0, 1) in adjacent_ranks(ranked, ties="keep").pairs


def test_ratings_differ_by_more_than_the_threshold() -> None:
    stars = group(4, ratings=rated(4, 2, 5, "abstain"))
    assert set(threshold(stars).pairs) == {Pair(first=0, second=1, strength=2), Pair(first=2, second=0, strength=1), Pair(first=2, second=1, strength=3)}
    assert threshold(stars).dropped == {"rating: abstained": 1, "response: no rating": 1}
    assert threshold(stars, min_gap=1).dropped["pair: gap not above the threshold"] == 1
    assert threshold(stars, min_gap=1, ties="keep").pairs[1] == tie(0, 2)
    assert threshold(group(2, ratings=rated(3, 3))).dropped == {"pair: gap not above the threshold": 1}


def test_annotators_are_averaged_within_an_aspect_and_aspects_after_that() -> None:
    """Response 0: (4+2)/2 = 3 and 5, mean 4; response 1: 3 and 4, mean 3.5. Three ratings of one aspect do not outvote one of another."""
    stars = group(2, ratings=[*rated(4, 3, aspect="helpful"), *rated(2, aspect="helpful", annotator="b"), *rated(5, 4, aspect="clear")])
    assert threshold(stars).pairs == (Pair(first=0, second=1, strength=0.5),)
    assert threshold(stars, aspect="clear").pairs == (Pair(first=0, second=1, strength=1),)
    assert threshold(stars, aspect="clear").dropped == {"rating: on another aspect": 3}


def test_a_response_that_lacks_an_aspect_has_no_mean() -> None:
    stars = group(3, ratings=[*rated(4, 3, 1, aspect="helpful"), *rated(5, 4, aspect="clear")])
    assert threshold(stars).pairs == (Pair(first=0, second=1, strength=1),)
    assert threshold(stars).dropped == {"response: no rating on some aspect": 1}


def test_the_overall_rating_counts_where_there_is_one_and_scales_are_not_mixed() -> None:
    overall = group(2, ratings=[*rated(1, 5), *rated(5, 1, aspect="clear")])
    assert threshold(overall).pairs == (Pair(first=1, second=0, strength=4),)
    mixed = group(2, ratings=[*rated(1, 0, aspect="ok", scale=(0, 1)), *rated(2, 5, aspect="clear")])
    assert threshold(mixed).pairs == ()
    assert threshold(mixed).dropped == {"rating: on different scales within one group": 4}


def test_a_vote_is_the_share_that_prefers_the_first_and_a_tie_is_half() -> None:
    voiced = group(2, verdicts=[beats(1, 0, annotator="a"), beats(1, 0, annotator="b"), beats((0, 1), annotator="c"), beats(0, 1, annotator="d")])
    assert vote(voiced).pairs == (Pair(first=1, second=0, target=2.5 / 4),)
    assert vote(voiced, min_votes=5).dropped == {"verdict: too few votes on its pair": 4}


def test_votes_that_all_agree_keep_the_mean_strength_and_even_votes_are_no_tie() -> None:
    assert vote(group(2, verdicts=[beats(1, 0, strength=1), beats(1, 0, strength=3)])).pairs == (Pair(first=1, second=0, strength=2),)
    assert vote(group(2, verdicts=[beats(1, 0, strength=1), beats(0, 1, strength=3)])).pairs == (Pair(first=0, second=1, target=0.5),)
    level = group(2, verdicts=[beats((0, 1)), beats((1, 0))])
    assert vote(level).dropped == {"verdict: all call the pair a tie": 2}
    assert vote(level, ties="keep").pairs == (tie(0, 1),)


def test_votes_on_several_pairs_of_one_group() -> None:
    ranked = group(3, verdicts=[beats(0, 1, 2), beats(1, 2)])
    assert vote(ranked).pairs == (Pair(first=0, second=1), Pair(first=0, second=2), Pair(first=1, second=2))


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    named = draw(st.permutations(range(5)))[: draw(st.integers(2, 5))]
    cuts = sorted(draw(st.sets(st.integers(1, len(named) - 1))))
    tiers = tuple(tuple(named[start:end]) for start, end in zip([0, *cuts], [*cuts, len(named)], strict=True))
    return Verdict(tiers=tiers)


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(verdicts(), max_size=4))
def test_nothing_is_lost_uncounted_and_every_pair_follows_from_a_verdict(said: list[Verdict]) -> None:
    """A verdict on n responses implies n (n-1) / 2 pairs: each is made or counted; none is turned round."""
    implied = sum(n * (n - 1) // 2 for n in (sum(map(len, verdict.tiers)) for verdict in said))
    voiced = group(5, verdicts=said)
    for signal in (all_pairs(voiced), all_pairs(voiced, ties="keep"), best_worst(voiced), adjacent_ranks(voiced, ties="keep")):
        assert len(signal.pairs) + sum(signal.dropped.values()) == implied + (not said)
        for pair in signal.pairs:
            assert any(verdict.order(pair.first, pair.second) == (0 if pair.tie else 1) for verdict in said)
    merged = vote(voiced, ties="keep").pairs
    assert len({frozenset((pair.first, pair.second)) for pair in merged}) == len(merged)
    assert all(0.5 <= pair.target <= 1 for pair in merged)
