"""The record refuses what contradicts itself, and keeps missing apart from zero."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Edit, Group, Prompt, Rating, Response, Span, Step, Verdict, text_of

TWO = (Response(content="yes"), Response(content="no"))


def group(**fields: Any) -> Group:
    return Group(id="g", contexts={"main": Prompt(content="q")}, responses=TWO, **fields)


def test_a_verdict_orders_and_ties() -> None:
    verdict = Verdict(tiers=((2,), (0, 1)))
    assert [verdict.order(2, 0), verdict.order(0, 2), verdict.order(0, 1), verdict.order(0, 3)] == [1, -1, 0, None]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: group(verdicts=(Verdict(tiers=((0,), (2,))),)), "verdicts[0].tiers"),
        (lambda: group(ratings=(Rating(response=2, value=1.0),)), "ratings[0].response"),
        (lambda: group(ratings=(Rating(response=True, value=1.0),)), "ratings[0].response"),
        (lambda: Verdict(tiers=((0,),)), "verdict.tiers"),
        (lambda: Verdict(tiers=((0, 0), (1,))), "verdict.tiers"),
        (lambda: Verdict(tiers=((0,), (), (1,))), "verdict.tiers"),
        (lambda: Verdict(tiers=((0,), (1,)), presented=(0, 2)), "verdict.presented"),
        (lambda: Verdict(tiers=((0,), (1,)), strength=-1.0), "verdict.strength"),
        (lambda: Verdict(tiers=((0,), (1,)), confidence=1.5), "verdict.confidence"),
        (lambda: Rating(response=0, value=float("nan")), "rating.value"),
        (lambda: Rating(response=0, value=6.0, scale=(1, 5)), "rating.value"),
        (lambda: Rating(response=0, value=1.0, scale=(5, 1)), "rating.scale"),
        (lambda: Prompt(content=""), "prompt.content"),
        (lambda: Prompt(content="a\ud800b"), "prompt.content"),
        (lambda: Prompt(content=({"content": "no role"},)), "prompt.content[0].role"),
        (lambda: Prompt(content=({"role": "user"},)), "prompt.content[0].content"),
        (lambda: Response(content="abc", spans=(Span(start=1, end=4, type="x"),)), "response.spans"),
        (lambda: Response(content="abc", steps=(Step(end=2), Step(end=1))), "response.steps"),
        (lambda: Response(content="abc", scores={"help": float("inf")}), "response.scores.help"),
        (lambda: Response(content="a", token_ids=(1, 2), logps=(-0.5,)), "response.logps"),
        (lambda: Group(id="", responses=()), "id"),
        (lambda: Group(id="g", contexts={"main": Prompt(content="q")}, responses=(Response(content="a", context="other"),)), "responses[0].context"),
        (lambda: Group(id="g", responses=(Response(content="a", edit=Edit(of=0)),)), "responses[0].edit.of"),
    ],
)
def test_contradictions_name_their_field(make: Any, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        make()
    assert caught.value.field == field
    assert str(caught.value).count("\n") == 0


def test_an_abstention_is_no_number_and_lies_on_no_scale() -> None:
    assert Rating(response=0, value="abstain", scale=(0, 1)).value == "abstain"


def test_text_of_turns_joins_the_text_parts() -> None:
    turns = ({"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "image", "image": "x.png"}]})
    assert text_of(turns) == "a\nb"
    assert text_of(None) == ""


def test_why_a_group_cannot_be_trained_on() -> None:
    assert group().untrainable is None
    assert Group(id="g", responses=TWO).untrainable == "the source holds no prompt"
    withheld = Group(id="g", contexts={"main": Prompt(content="q")}, responses=(Response(content=None),))
    assert withheld.untrainable == "the texts of the responses are withheld"


def test_an_error_is_one_line_with_everything_in_it() -> None:
    error = RecordError("a rating\nlies on its scale", field="rating.value", value="x" * 200, allowed="1 to 5").at(file="f.jsonl", line=7)
    said = str(error)
    assert said.startswith("f.jsonl:7: rating.value: a rating lies on its scale (got 'xxx")
    assert said.endswith("allowed: 1 to 5")
    assert "\n" not in said
    assert len(said) < 200
