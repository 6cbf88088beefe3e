"""Whose feedback counts."""

from __future__ import annotations

from attune.core.record import Group, Rating, Response, Verdict
from attune.data.voices import heard, is_person

NAMES = (None, "annotator1", "judge:gpt-4", "gold", "program")
GROUP = Group(
    id="g",
    responses=(Response(content="a"), Response(content="b")),
    verdicts=tuple(Verdict(tiers=((0,), (1,)), annotator=name) for name in NAMES),
    ratings=tuple(Rating(response=0, value=1.0, annotator=name) for name in NAMES),
)


def test_people_are_those_without_a_prefix_and_those_without_a_name() -> None:
    assert [is_person(name) for name in NAMES] == [True, True, False, False, False]


def test_what_others_said_is_counted() -> None:
    people, left_out = heard(GROUP, "people")
    assert ([verdict.annotator for verdict in people.verdicts], len(people.ratings), left_out) == ([None, "annotator1"], 2, 6)
    gold, left_out = heard(GROUP, ("gold",))
    assert ([verdict.annotator for verdict in gold.verdicts], left_out) == (["gold"], 8)
    assert heard(GROUP, "all") == (GROUP, 0)
