from __future__ import annotations

import pytest

from attune.diagnostics.feedback.length import length
from attune.diagnostics.feedback.position import position
from attune.ops.intervals import wilson_interval
from tests.diagnostics.make import clean, group, said, won


def test_share_of_the_first_shown_with_wilson() -> None:
    """Eight of ten: centre (0.8 + z^2/20) / (1 + z^2/10), by hand [0.4902, 0.9433]."""
    groups = [group(f"p{index}", "a", "b", verdicts=[said((0,), (1,), shown=(0, 1) if index < 8 else (1, 0))]) for index in range(10)]
    (found,) = position(groups)
    share = found.numbers["share"]
    assert (share.value, share.method) == (0.8, "Wilson")
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (share.low, share.high) == pytest.approx(wilson_interval(8, 10))
    assert found.level == "ok"  # one half lies inside


def test_a_bias_is_found_and_its_annotator_named() -> None:
    groups = []
    for index in range(80):
        first, best = index % 2, index // 2 % 2
        shown = (first, 1 - first)
        verdicts = [said((best,), (1 - best,), by="fair", shown=shown), said((first,), (1 - first,), by="lazy", shown=shown)]
        groups.append(group(f"p{index}", "a", "b", verdicts=verdicts))
    found = position(groups)[0]
    assert found.numbers["share"].value == pytest.approx(0.75)  # all of lazy's and half of fair's
    assert (found.numbers["by_annotator"]["fair"].value, found.numbers["by_annotator"]["lazy"].value) == (0.5, 1.0)
    assert found.level == "warn" and "most lopsided: lazy" in found.headline


def test_several_verdicts_on_a_prompt_are_resampled_together() -> None:
    assert position(clean())[0].numbers["share"].method.endswith("over 60 clusters")


def test_clean_pairs_are_quiet_and_ties_gold_and_unknown_orders_do_not_count() -> None:
    (found,) = position(clean())
    assert (found.level, found.numbers["share"].value, found.numbers["comparisons"]) == ("ok", 0.5, 120)
    assert position([group("p0", "a", "b", verdicts=[won(0, 1), said((0, 1), shown=(0, 1)), said((0,), (1,), by="gold", shown=(0, 1))])]) == ()


def test_verdicts_in_both_orders() -> None:
    """Of ten pairs shown both ways the judge keeps its verdict on seven and follows the place on three."""
    groups = []
    for index in range(10):
        again = (0, 1) if index < 7 else (1, 0)
        verdicts = [said((0,), (1,), by="judge:j", shown=(0, 1)), said(*[(place,) for place in again], by="judge:j", shown=(1, 0))]
        groups.append(group(f"p{index}", "a", "b", verdicts=verdicts))
    shown, order = position(groups)
    assert order.numbers["by_annotator"]["judge:j"].consistent.value == pytest.approx(0.7)
    # seven ones of two times seven, and all of three times two, were shown first
    assert shown.numbers["share"].value == pytest.approx((7 + 6) / 20)
    assert order.level == "warn" and "judge:j" in order.mend


def test_length_by_hand() -> None:
    """Preferred less dispreferred: 10 - 5, 20 - 30, 7 - 7: mean -5/3; the longer wins 1 of 2 unequal ones."""
    sizes = ((10, 5), (20, 30), (7, 7))
    groups = [group(f"l{index}", "x" * longer, "y" * other, verdicts=[won(0, 1)]) for index, (longer, other) in enumerate(sizes)]
    (found,) = length(groups)
    assert found.numbers["difference"].value == pytest.approx(-5 / 3)
    assert found.numbers["median_difference"] == 0
    assert (found.numbers["longer_wins"].value, found.numbers["longer_wins"].num, found.numbers["equal"]) == (0.5, 2, 1)
    assert found.headline.startswith("preferred responses are 1.7 characters shorter")


def test_length_is_told_when_it_drives_and_not_otherwise() -> None:
    (quiet,) = length(clean())
    assert (quiet.level, quiet.numbers["difference"].value) == ("ok", 0)
    long_ones = [group(f"l{index}", "x" * (50 + index), "y" * 20, verdicts=[won(0, 1)]) for index in range(40)]
    (found,) = length(long_ones)
    assert (found.level, found.numbers["longer_wins"].value) == ("warn", 1.0)
    assert found.numbers["longer_wins"].low > 0.9
    assert found.numbers["difference"].value == pytest.approx(30 + 19.5)


def test_withheld_texts_have_no_length() -> None:
    assert length([group("l0", None, "text", verdicts=[won(0, 1)])]) == ()
