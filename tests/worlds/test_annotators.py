import math
from collections import Counter
from dataclasses import replace

import pytest

from attune.core.errors import ConfigError
from attune.core.record import MAIN, Group, Prompt, Response, Verdict
from attune.worlds.annotators import Annotator, DavidsonAnnotator, judge


def lists(num, texts="abc"):
    return [Group(id=f"g{i}", contexts={MAIN: Prompt(content="q")}, responses=tuple(Response(content=text) for text in texts)) for i in range(num)]


def by_index(group, index):
    return -float(index)


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_chances_by_hand():
    assert Annotator(id="a").chances(1.0) == pytest.approx((sigma(1), 0, sigma(-1)))
    assert Annotator(id="a", temperature=2, position_bias=0.5).chances(1.0) == pytest.approx((sigma(0.75), 0, sigma(-0.75)))
    # Rao and Kupper: W = p1 / (p1 + theta p2), tie = (theta^2 - 1) p1 p2 / ((p1 + theta p2) (theta p1 + p2)), here p1 = 3, p2 = 1, theta = 2
    found = Annotator(id="a", tie_threshold=math.log(2)).chances(math.log(3))
    assert found == pytest.approx((3 / 5, 3 * 3 / (5 * 7), 1 / 7))
    noisy = Annotator(id="a", tie_threshold=math.log(2), noise=0.1).chances(math.log(3))
    assert noisy == pytest.approx((0.9 * 3 / 5 + 0.1 / 7, 9 / 35, 0.9 / 7 + 0.1 * 3 / 5))
    # Davidson: p1 : nu sqrt(p1 p2) : p2 with p1 = 4, p2 = 1, t = 1/3 so nu = 1
    assert DavidsonAnnotator(id="a").chances(math.log(4)) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert DavidsonAnnotator(id="a", tie_rate=0.2).chances(0.0)[1] == pytest.approx(0.2)
    assert DavidsonAnnotator(id="a").chances(5000.0) == (1.0, 0.0, 0.0)


def test_without_noise_the_threshold_decides():
    sure = Annotator(id="a", temperature=0, tie_threshold=1.0)
    assert [sure.chances(d) for d in (1.5, 1.0, 0.0, -1.0, -1.5)] == [(1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)]


@pytest.mark.parametrize(
    "make",
    [lambda: Annotator(id="a", noise=1.1), lambda: Annotator(id="a", temperature=-1), lambda: DavidsonAnnotator(id="a", tie_rate=1.0)],
)
def test_impossible_annotators_are_refused(make):
    with pytest.raises(ConfigError, match="out of range"):
        make()


def test_noise_turns_round_its_share_of_verdicts():
    groups = judge(lists(1000), [Annotator(id="a", temperature=0, noise=0.2)], by_index, seed=0)
    wrong = sum(verdict.tiers[0] > verdict.tiers[1] for group in groups for verdict in group.verdicts)
    # 3000 verdicts, wrong with probability 0.2: four standard deviations are 4 sqrt(3000 * 0.2 * 0.8) = 88
    assert abs(wrong - 600) < 88
    order = Counter(verdict.presented for group in groups for verdict in group.verdicts)
    assert all(abs(order[pair] - 500) < 64 for pair in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)))


def test_ties_and_wins_come_as_often_as_their_chances_say():
    judged = judge(lists(3000, "ab"), [Annotator(id="a", tie_threshold=math.log(2))], lambda _, index: (math.log(3), 0.0)[index], seed=1)
    found = Counter(group.verdicts[0].tiers for group in judged)
    # shares 3/5, 9/35, 1/7 of 3000 within four standard deviations
    for tiers, share in ((((0,), (1,)), 3 / 5), (((0, 1),), 9 / 35), (((1,), (0,)), 1 / 7)):
        assert abs(found[tiers] - 3000 * share) < 4 * math.sqrt(3000 * share * (1 - share))


def test_a_liking_for_the_first_shows_in_the_order_only():
    judged = judge(lists(2000, "ab"), [Annotator(id="a", position_bias=1.0)], lambda *_: 0.0, seed=0)
    first = sum(group.verdicts[0].tiers[0][0] == group.verdicts[0].presented[0] for group in judged)
    assert abs(first - 2000 * sigma(1)) < 4 * math.sqrt(2000 * sigma(1) * sigma(-1))
    assert abs(sum(group.verdicts[0].tiers[0] == (0,) for group in judged) - 1000) < 4 * math.sqrt(500)


def test_verdicts_depend_on_the_names_alone():
    two = [Annotator(id="a"), Annotator(id="b")]
    whole = judge(lists(6), two, by_index, num_pairs=2, seed=4)
    assert judge(lists(6)[3:5], two, by_index, num_pairs=2, seed=4) == whole[3:5]
    alone = judge(lists(6), two[1:], by_index, num_pairs=2, seed=4)
    assert [group.verdicts for group in alone] == [tuple(v for v in group.verdicts if v.annotator == "b") for group in whole]
    assert judge(lists(6), two, by_index, num_pairs=2, seed=5) != whole


def test_all_annotators_see_the_pairs_that_were_drawn_and_equal_texts_are_not_compared():
    two = [Annotator(id="a"), Annotator(id="b")]
    for group in judge(lists(20, "abcde"), two, by_index, num_pairs=3, seed=0):
        pairs = Counter(frozenset(verdict.presented) for verdict in group.verdicts)
        assert len(pairs) == 3
        assert set(pairs.values()) == {2}
    (group,) = judge(lists(1, "aab"), two[:1], by_index, seed=0)
    assert {frozenset(verdict.presented) for verdict in group.verdicts} == {frozenset({0, 2}), frozenset({1, 2})}
    assert judge(lists(1, "aa"), two, by_index, seed=0)[0].verdicts == ()


def test_earlier_verdicts_are_kept():
    earlier = Verdict(tiers=((2,), (0,)), annotator="z")
    (group,) = judge([replace(lists(1)[0], verdicts=(earlier,))], [Annotator(id="a")], by_index, num_pairs=1, seed=0)
    assert len(group.verdicts) == 2
    assert group.verdicts[0] == earlier
