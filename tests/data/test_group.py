"""Joining groups of one prompt: nothing is lost, every index still names the same response."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.core.record import Edit, Group, Prompt, Rating, Response, Source, Span, Step, Verdict
from attune.data.account import Account
from attune.data.group import doubts, key, merge, unique

PROMPT = {"main": Prompt(content="Why?")}


def pair(better: str, worse: str, name: str = "g", **more: object) -> Group:
    made = Group(id=name, contexts=PROMPT, responses=(Response(content=better), Response(content=worse)), verdicts=(Verdict(tiers=((0,), (1,))),))
    return replace(made, **more)


def test_three_pairs_of_three_answers_become_one_list() -> None:
    (group,) = merge([pair("a", "b", "first"), pair("b", "c", "second"), pair("a", "c", "third")])
    assert group.id == "first"
    assert [response.content for response in group.responses] == ["a", "b", "c"]
    assert [verdict.tiers for verdict in group.verdicts] == [((0,), (1,)), ((1,), (2,)), ((0,), (2,))]
    assert [trace["id"] for trace in group.meta["also"]] == ["second", "third"]


def test_presented_ratings_and_edits_move_with_their_responses() -> None:
    first = pair("a", "b")
    second = Group(
        id="h",
        contexts=PROMPT,
        responses=(Response(content="new"), Response(content="b"), Response(content="new b", edit=Edit(of=1, annotator="w"))),
        verdicts=(Verdict(tiers=((2,), (0, 1)), presented=(1, 0, 2)),),
        ratings=(Rating(response=1, value=3), Rating(response=0, value=4)),
    )
    (group,) = merge([first, second])
    assert [response.content for response in group.responses] == ["a", "b", "new", "new b"]
    assert group.verdicts[1] == Verdict(tiers=((3,), (2, 1)), presented=(1, 2, 3))
    assert [(rating.response, rating.value) for rating in group.ratings] == [(1, 3), (2, 4)]
    assert group.responses[3].edit == Edit(of=1, annotator="w")


def test_an_edit_found_in_a_later_record_points_into_the_joined_group() -> None:
    early = Group(id="g", contexts=PROMPT, responses=(Response(content="after"), Response(content="before")))
    late = Group(id="g", contexts=PROMPT, responses=(Response(content="before"), Response(content="after", edit=Edit(of=0))))
    (group,) = merge([early, late])
    assert [response.edit for response in group.responses] == [Edit(of=1), None]


def test_equal_responses_of_one_group_stay_two() -> None:
    same = pair("a", "a")
    (group,) = merge([same, same])
    assert len(group.responses) == 2
    assert [verdict.tiers for verdict in group.verdicts] == [((0,), (1,)), ((0,), (1,))]
    assert list(doubts(group)) == [(f"verdicts[{index}].tiers", "one response is preferred to another with the same content") for index in (0, 1)]
    assert list(doubts(replace(same, verdicts=(Verdict(tiers=((0, 1),)),)))) == []


@pytest.mark.parametrize(
    "other",
    [
        pair("a", "b", contexts={"main": Prompt(content=({"role": "user", "content": "Why?"},))}),
        pair("a", "b", contexts={"main": Prompt(content="Why?", tools=({"name": "t"},))}),
        pair("a", "b", contexts={"main": Prompt(content="Why?", images=("x.png",))}),
        pair("a", "b", contexts={"main": Prompt(content="Why?", meta={"chat_template_kwargs": {"thinking": True}})}),
        pair("a", "b", contexts={**PROMPT, "short": Prompt(content="W?")}),
        pair("a", "b", user="u"),
        pair("a", "b", criterion="short"),
    ],
)
def test_other_prompts_users_and_criteria_stay_apart(other: Group) -> None:
    assert len(merge([pair("a", "b"), other])) == 2


def test_groups_without_prompts_join_by_id() -> None:
    one, two = (Group(id="s", responses=(Response(content=text, generator=text),)) for text in "ab")
    assert [len(group.responses) for group in merge([one, two, replace(one, id="t")])] == [2, 1]


def test_what_one_lacks_the_other_fills_in() -> None:
    span, mark = Span(start=0, end=1, type="t", annotator="x"), Span(start=0, end=1, type="t", annotator="y")
    one = Response(content="ab", spans=(span,), scores={"r": 1.0})
    two = Response(content="ab", spans=(span, mark), scores={"q": 2.0}, token_ids=(1, 2), logps=(-0.5, -0.25), critique="c", steps=(Step(end=2),))
    (group,) = merge([Group(id="g", contexts=PROMPT, responses=(response,)) for response in (one, two)])
    expected = Response(
        content="ab", spans=(span, mark), scores={"r": 1.0, "q": 2.0}, token_ids=(1, 2), logps=(-0.5, -0.25), critique="c", steps=(Step(end=2),)
    )
    assert group.responses == (expected,)


@pytest.mark.parametrize(
    "other",
    [
        Response(content="ab", scores={"r": 2.0}),
        Response(content="ab", token_ids=(2,)),
        Response(content="ab", generator="m"),
        Response(content="ab", critique="other"),
        Response(content="ab", meta={"k": 2}),
    ],
)
def test_responses_that_disagree_stay_two(other: Response) -> None:
    one = Response(content="ab", scores={"r": 1.0}, token_ids=(1,), critique="c", meta={"k": 1})
    (group,) = merge([Group(id="g", contexts=PROMPT, responses=(response,)) for response in (one, other)])
    assert group.responses == (one, other)


def test_withheld_responses_are_never_taken_for_one() -> None:
    hidden = Group(id="g", contexts=PROMPT, responses=(Response(content=None, generator="m"),))
    assert len(merge([hidden, hidden])[0].responses) == 2


def test_the_trace_keeps_what_differs() -> None:
    one = pair("a", "b", source=Source(file="1", line=1, format="f"), meta={"same": 1, "kind": "x"})
    two = pair("a", "b", name="h", source=Source(file="2", line=7, format="f"), meta={"same": 1, "kind": "y"})
    (group,) = merge([one, two])
    assert group.source == one.source
    assert group.meta == {"same": 1, "kind": "x", "also": [{"id": "h", "file": "2", "line": 7, "format": "f", "meta": {"kind": "y"}}]}


def test_an_id_that_another_prompt_has_is_changed_and_reported() -> None:
    one = Group(id="7", contexts=PROMPT, source=Source(file="d/x.jsonl", line=1))
    two = Group(id="7", contexts={"main": Prompt(content="How?")}, source=Source(file="d/x.jsonl", line=2))
    account = Account()
    assert [group.id for group in unique([one, two], account)] == ["7", "7@x.jsonl:2"]
    (doubt,) = account.doubts
    assert (doubt.file, doubt.line, doubt.field, doubt.id) == ("d/x.jsonl", 2, "id", "7")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.sampled_from("abc"), st.booleans()), max_size=12))
def test_every_verdict_still_says_the_same_of_the_same_texts(rows: list[tuple[str, str, str, bool]]) -> None:
    """Read back as (prompt, tiers of texts), the verdicts after joining are those before, in order within a prompt."""
    made = [
        Group(
            id=f"{number}",
            contexts={"main": Prompt(content=asked)},
            responses=(Response(content=one), Response(content=two)),
            verdicts=(Verdict(tiers=((0, 1),) if tie else ((1,), (0,))),),
        )
        for number, (asked, one, two, tie) in enumerate(rows)
    ]

    def said(groups: list[Group]) -> list[tuple[object, ...]]:
        return [
            (group.prompt.content, tuple(tuple(group.responses[index].content for index in tier) for tier in verdict.tiers))
            for group in groups
            for verdict in group.verdicts
        ]

    joined = merge(made)
    assert sorted(said(joined), key=repr) == sorted(said(made), key=repr)
    assert len(joined) == len({asked for asked, *_ in rows})
    assert [key(group) for group in merge(joined)] == [key(group) for group in joined]
