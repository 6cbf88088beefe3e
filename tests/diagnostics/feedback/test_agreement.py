from __future__ import annotations

import pytest

from attune.core.record import Group
from attune.diagnostics.feedback.agreement import agreement
from attune.ops.intervals import Estimate
from tests.diagnostics.make import clean, group, said, won


def pairs(*labels: tuple[int, ...], names: tuple[str, ...] = ("ann", "bob")) -> list[Group]:
    """One group a comparison; label w of an annotator: index of the winner."""
    return [
        group(f"p{index}", "one", "two", verdicts=[won(winner, 1 - winner, by=name) for name, winner in zip(names, label, strict=True)])
        for index, label in enumerate(labels)
    ]


def test_coefficients_by_hand() -> None:
    """Four comparisons, ann 0 0 1 1, bob 0 0 0 1.

    Cohen: observed 3/4, chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2, kappa 1/2. Fleiss: chance (5/8)^2 + (3/8)^2 = 34/64, kappa (48 - 34) / (64 - 34) = 7/15.
    Krippendorff: 2 disagreeing ordered labels inside, 2 * 5 * 3 among all, alpha 1 - 7 * 2 / 30 = 8/15.
    """
    (found,) = agreement(pairs((0, 0), (0, 0), (1, 0), (1, 1)))
    assert found.name == "agreement_people"
    assert found.numbers["cohen"]["ann - bob"].value == pytest.approx(1 / 2)
    assert found.numbers["fleiss"].value == pytest.approx(7 / 15)
    assert found.numbers["alpha"].value == pytest.approx(8 / 15)
    assert found.level == "note"
    assert "0.500 (ann - bob)" in found.headline


def test_ties_are_a_label() -> None:
    groups = [
        group("p0", "one", "two", verdicts=[said((0, 1), by="ann"), won(0, 1, by="bob")]),
        group("p1", "one", "two", verdicts=[said((0, 1), by="ann"), said((0, 1), by="bob")]),
    ]
    # observed 1/2; ann always ties, bob half: chance 1/2
    assert agreement(groups)[0].numbers["cohen"]["ann - bob"].value == pytest.approx(0.0)


def test_a_second_verdict_of_the_same_annotator_is_another_item() -> None:
    twice = group("p0", "one", "two", verdicts=[won(0, 1, by="ann"), won(0, 1, by="bob"), won(1, 0, by="ann"), won(1, 0, by="bob")])
    (found,) = agreement([twice])
    assert found.numbers["comparisons"] == 2
    assert found.numbers["cohen"]["ann - bob"].value == pytest.approx(1.0)


def test_people_who_agree_are_quiet_and_coin_flippers_are_not() -> None:
    assert agreement(clean())[0].level == "ok"
    flips = pairs(*[(index % 2, index // 2 % 2) for index in range(80)])
    found = agreement(flips)[0]
    assert found.numbers["alpha"].value == pytest.approx(1 - 159 * 80 / (2 * 80 * 80))  # 40 of 80 disagree, labels even
    assert found.level == "warn"


def test_judges_are_held_against_gold_labels() -> None:
    names = ("gold", "judge:right", "judge:wrong")
    groups = pairs(*[(index % 2, index % 2, 1 - index % 2) for index in range(10)], names=names)
    within, judged = agreement(groups)
    assert (within.name, judged.name) == ("agreement_judges", "judges")
    shares: dict[str, Estimate] = judged.numbers["share"]
    assert (shares["judge:right"].value, shares["judge:wrong"].value) == (1.0, 0.0)
    assert judged.numbers["kappa"]["judge:wrong"].value == pytest.approx(-1.0)
    assert judged.headline == "judge:right agrees with gold labels on 100.0 % of 10 verdicts, judge:wrong on 0.0 % of 10"
    assert judged.level == "warn" and "judge:wrong" in judged.mend and "judge:right" not in judged.mend


def test_without_gold_the_majority_of_people_is_the_truth() -> None:
    groups = pairs((0, 0, 1, 0), (1, 1, 1, 0), (0, 1, 0, 0), names=("ann", "bob", "cat", "judge:j"))
    judged = agreement(groups)[-1]
    # the majority says 0, 1, 0; the judge 0, 0, 0
    assert judged.numbers["truth"] == "the majority of people"
    assert judged.numbers["share"]["judge:j"].value == pytest.approx(2 / 3)
    # two against two are no majority, whoever spoke first
    even = pairs((0, 0, 0), (0, 1, 1), (1, 0, 0), names=("ann", "bob", "judge:j"))
    assert agreement(even)[-1].numbers["share"]["judge:j"].num == 1


def test_nothing_to_say_about_nobody_named_or_one_annotator() -> None:
    assert agreement([group("p0", "one", "two", verdicts=[won(0, 1), won(0, 1)])]) == ()
    assert agreement([group("p0", "one", "two", verdicts=[won(0, 1, by="ann")])]) == ()
