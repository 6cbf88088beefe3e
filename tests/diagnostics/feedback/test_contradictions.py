from __future__ import annotations

from dataclasses import replace

from attune.diagnostics.feedback.contradictions import contradictions
from tests.diagnostics.make import clean, group, said, won


def test_one_annotator_who_says_both_is_found() -> None:
    groups = clean(40)
    groups[7] = group("clean-7", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="ann")])
    found = contradictions(groups)[0]
    assert [(record.id, record.line) for record in found.records] == [("clean-7", 7)]
    assert (found.numbers["pairs"], found.numbers["contradictory"], found.level) == (40, 1, "warn")


def test_more_than_five_in_a_hundred_are_an_error() -> None:
    def level(num: int) -> str:
        bad = [group(f"b{index}", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="ann")]) for index in range(num)]
        return contradictions([*clean(100 - num), *bad])[0].level

    assert (level(0), level(5), level(6)) == ("ok", "warn", "error")


def test_the_same_texts_in_another_place_or_group_are_the_same_question() -> None:
    one = group("one", "this", "that", prompt="same", verdicts=[won(0, 1, by="ann")])
    other = group("other", "that", "this", prompt="same", verdicts=[won(0, 1, by="ann")])
    assert contradictions([one, other])[0].numbers["contradictory"] == 1
    # another prompt, user or criterion is another question
    assert contradictions([one, group("other", "that", "this", verdicts=[won(0, 1, by="ann")])])[0].numbers["contradictory"] == 0
    assert contradictions([one, replace(other, user="u2")])[0].numbers["contradictory"] == 0
    on_style = replace(other, verdicts=(replace(other.verdicts[0], criterion="style"),))
    assert contradictions([one, on_style])[0].numbers["contradictory"] == 0


def test_a_judge_that_follows_the_place_is_named_as_such() -> None:
    moved = group("m0", "this", "that", verdicts=[said((0,), (1,), by="judge:j", shown=(0, 1)), said((1,), (0,), by="judge:j", shown=(1, 0))])
    found = contradictions([moved])[0]
    assert (found.numbers["swapped"], found.records[0].detail) == (1, "responses 0 and 1: judge:j said both, shown in both orders")


def test_several_annotators_disagree_and_do_not_contradict() -> None:
    groups = [*clean(10), group("d10", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="bob"), won(1, 0, by="cat")])]
    own, people = contradictions(groups)
    assert (own.level, own.numbers["contradictory"]) == ("ok", 0)
    assert (people.name, people.level, people.numbers["pairs"], people.numbers["disagreements"]) == ("disagreements_people", "note", 11, 1)
    assert people.records[0].detail == "responses 0 and 1: 2 against 1"


def test_people_and_judges_are_counted_apart() -> None:
    mixed = group("m0", "this", "that", verdicts=[won(0, 1, by="ann"), won(1, 0, by="judge:j"), won(1, 0, by="gold")])
    assert [finding.name for finding in contradictions([mixed])] == ["contradictions"]


def test_ties_and_equal_texts_contradict_nothing() -> None:
    tied = [group(f"t{winner}", "this", "that", verdicts=[won(winner, 1 - winner, by="ann"), said((0, 1), by="ann")]) for winner in (0, 1)]
    equal = group("t2", "same", "same", verdicts=[won(0, 1, by="ann"), won(1, 0, by="ann")])
    assert contradictions([*tied, equal])[0].numbers == {"pairs": 2, "contradictory": 0, "unnamed": 0, "swapped": 0}


def test_nobody_named_is_said_to_be_so() -> None:
    found = contradictions([group("n0", "this", "that", verdicts=[won(0, 1), won(1, 0)])])[0]
    assert found.numbers["unnamed"] == 1 and "of nobody named" in found.headline
