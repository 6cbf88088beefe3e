"""Ratings, labels, and ratings against verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attune.core.record import Group, Rating, Response
from attune.diagnostics.feedback.balance import balance
from attune.diagnostics.feedback.consistency import consistency
from attune.diagnostics.feedback.rating_agreement import rating_agreement
from attune.diagnostics.feedback.ratings import ratings
from tests.diagnostics.make import group, said, won


def rated(name: str, values: dict[str, float | str], *, aspect: str | None = None, scale: tuple[float, float] = (1, 5)) -> Group:
    """One response rated by several annotators."""
    said_of = [Rating(response=0, value="abstain" if isinstance(v, str) else v, scale=scale, aspect=aspect, annotator=who) for who, v in values.items()]
    return group(name, "text", ratings=said_of)


def test_use_of_the_scale() -> None:
    groups = [rated(f"r{index}", {"ann": 1 + index % 5, "bob": "abstain" if index < 2 else 3}) for index in range(10)]
    usage, raters = ratings(groups)
    use = usage.numbers["aspects"]["(overall)"]
    # ann gives each of 1 to 5 twice, bob 3 eight times
    assert use["values"] == {"1": 2, "2": 2, "3": 10, "4": 2, "5": 2}
    assert (use["num"], use["abstained"], use["scales"]) == (18, 2, [(1, 5)])
    assert use["largest_share"] == pytest.approx(10 / 18)
    assert usage.level == "note"
    # that bob says 3 eight times by chance: (10 / 18)^8 = 0.009
    assert (raters.level, raters.numbers["single_valued"], raters.records[0].detail) == ("warn", 1, "bob gave 3 for (overall) every time (8 ratings)")


def test_a_rater_who_says_what_nearly_everybody_says_is_not_suspected() -> None:
    groups = [rated(f"r{index}", {"ann": 1, "bob": 1 if index else 2}) for index in range(8)]
    # ann: (15 / 16)^8 = 0.6
    assert ratings(groups)[1].level == "ok"


def test_ratings_that_hardly_vary() -> None:
    groups = [rated(f"r{index}", {"ann": 5 if index else 4}, aspect="style") for index in range(20)]
    assert (ratings(groups)[0].level, ratings(groups)[0].numbers["near_constant"]) == ("warn", ["style"])
    mixed = [*groups, *[rated(f"m{index}", {"ann": 1 + index % 5}, aspect="facts") for index in range(20)]]
    assert ratings(mixed)[0].level == "note"
    assert ratings(mixed[20:])[0].level == "ok"


def test_scores_of_models_are_looked_at_too() -> None:
    groups = [replace(group(f"s{index}"), responses=(Response(content="x", scores={"flat": 0.5, "varied": index / 9}),)) for index in range(10)]
    (found,) = ratings(groups)
    assert (found.name, found.level, found.numbers["near_constant"]) == ("scores", "note", ["flat"])


def test_balance_of_thumbs() -> None:
    def thumbs(ups: int, downs: int) -> list[Group]:
        return [rated(f"b{index}", {"u": float(index < ups)}, scale=(0, 1)) for index in range(ups + downs)]

    (even,) = balance(thumbs(6, 4))
    assert even.level == "ok" and even.numbers["share"]["(overall)"].value == pytest.approx(0.6)
    assert even.numbers["counts"]["(overall)"] == {"desirable": 6, "undesirable": 4, "several": 0, "one_sided": 0}
    (lopsided,) = balance(thumbs(1, 19))
    assert lopsided.level == "warn" and "1 desirable and 19 undesirable" in lopsided.headline
    # grades are no labels, and one grade between makes the others grades
    assert balance([rated("g0", {"u": 1.0})]) == ()
    assert balance([*thumbs(2, 2), rated("g1", {"u": 0.5}, scale=(0, 1))]) == ()


def test_prompts_with_all_labels_on_one_side() -> None:
    def solved(name: str, *values: float) -> Group:
        return group(name, *map(str, values), ratings=[Rating(response=i, value=v, scale=(0, 1)) for i, v in enumerate(values)])

    (found,) = balance([solved("a", 1, 1), solved("b", 0, 1), solved("c", 0, 0, 0), solved("d", 1)])
    assert found.numbers["counts"]["(overall)"] == {"desirable": 4, "undesirable": 4, "several": 3, "one_sided": 2}


def test_alpha_of_ratings_by_hand() -> None:
    """Binary labels 11, 11, 00, 10 of two raters: 2 disagreeing ordered labels inside, 2 * 5 * 3 among all, alpha 1 - 7 * 2 / 30."""
    values = ((1, 1), (1, 1), (0, 0), (1, 0))
    groups = [rated(f"a{index}", {"ann": one, "bob": other}, scale=(0, 1)) for index, (one, other) in enumerate(values)]
    (found,) = rating_agreement(groups)
    assert found.name == "rating_agreement_people"
    assert found.numbers["alpha"]["(overall)"].value == pytest.approx(8 / 15)
    assert found.level == "note"


def test_raters_who_agree_are_quiet_and_random_ones_are_not() -> None:
    agreed = [rated(f"a{index}", {"judge:x#1": 1 + index % 5, "judge:x#2": 1 + index % 5}) for index in range(20)]
    assert [(finding.name, finding.level) for finding in rating_agreement(agreed)] == [("rating_agreement_judges", "ok")]
    crossed = [rated(f"a{index}", {"ann": 1 + index % 5, "bob": 1 + index // 5}) for index in range(25)]
    assert rating_agreement(crossed)[0].level == "warn"
    assert rating_agreement([rated("a0", {"ann": 1}), rated("a1", {"bob": 1})]) == ()


def both(name: str, one: float, other: float, *tiers: tuple[int, ...]) -> Group:
    values = [Rating(response=index, value=value, scale=(1, 7)) for index, value in enumerate((one, other))]
    return group(name, f"{name} a", f"{name} b", verdicts=[said(*tiers)], ratings=values)


def test_ratings_against_verdicts_by_hand() -> None:
    """Verdicts +, +, -, tie against ratings +, -, -, tie: 3 of 4; chance 2/4 * 1/4 + 1/4 * 2/4 + 1/4 * 1/4 = 5/16, kappa (12 - 5) / (16 - 5) = 7/11."""
    groups = [both("c0", 5, 3, (0,), (1,)), both("c1", 2, 3, (0,), (1,)), both("c2", 2, 6, (1,), (0,)), both("c3", 4, 4, (0, 1))]
    (found,) = consistency(groups)
    assert found.numbers["counts"]["(overall)"] == {"agree": 3, "comparisons": 4}
    assert found.numbers["kappa"]["(overall)"].value == pytest.approx(7 / 11)
    assert [(record.id, record.detail) for record in found.records] == [("c1", "responses 0, 1: verdict the first better, ratings the second better")]


def test_consistent_data_are_quiet_and_unrelated_ones_are_not() -> None:
    consistent = [both(f"c{index}", 2 + 3 * (index % 2), 5 - 3 * (index % 2), (0,) if index % 2 else (1,), (1,) if index % 2 else (0,)) for index in range(20)]
    assert consistency(consistent)[0].level == "ok"
    unrelated = [both(f"c{index}", 2 + 3 * (index % 2), 5 - 3 * (index % 2), (index // 2 % 2,), (1 - index // 2 % 2,)) for index in range(40)]
    (found,) = consistency(unrelated)
    assert (found.level, found.numbers["kappa"]["(overall)"].value) == ("warn", pytest.approx(0.0))


def test_a_rating_speaks_for_an_equal_text_and_scores_count_as_an_aspect_of_their_own() -> None:
    twice = group("t0", "same", "same", verdicts=[said((0, 1))], ratings=[Rating(response=0, value=3)])
    assert consistency([twice])[0].numbers["counts"]["(overall)"] == {"agree": 1, "comparisons": 1}
    scored = replace(group("t1"), responses=(Response(content="a", scores={"rm": 1.5}), Response(content="b", scores={"rm": 0.5})), verdicts=(won(0, 1),))
    assert consistency([scored])[0].numbers["counts"] == {"score: rm": {"agree": 1, "comparisons": 1}}


def test_nothing_to_say_without_both() -> None:
    assert consistency([group("n0", "a", "b", verdicts=[won(0, 1)]), rated("n1", {"u": 3})]) == ()


def test_five_ratings_are_enough_and_four_are_not() -> None:
    def same(num: int) -> list[Group]:
        return [rated(f"f{index}", {"ann": 3}) for index in range(num)]

    assert [ratings(same(num))[0].level for num in (4, 5)] == ["ok", "warn"]
    assert [ratings(same(num))[1].numbers["raters"] for num in (4, 5)] == [0, 1]
