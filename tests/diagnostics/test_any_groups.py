"""Whatever groups there are, the doctor copes; and what it counts does not hang on the order in which things stand."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from attune.core.record import Group, Prompt, Rating, Response, Verdict
from attune.diagnostics.diagnosis import Diagnosis
from attune.diagnostics.doctor import examine
from tests import tiny

WORDS = ("", "yes", "no", "yes", "perhaps so", None)
COUNTS = {
    "contents": ("kinds", "responses", "verdicts"),
    "texts": ("empty", "empty_preferred", "withheld"),
    "identical": ("comparisons", "identical", "ties"),
    "contradictions": ("pairs", "contradictory"),
    "cycles": ("sets", "cyclic", "triples", "cyclic_triples"),
    "duplicate_prompts": ("repeated",),
    "ties": ("comparisons", "ties"),
    "position": ("comparisons",),
    "length": ("comparisons", "median_difference", "equal"),
    "ratings": ("num", "abstained"),
    "balance": ("counts",),
    "consistency": ("counts",),
}


def any_group(draw: random.Random, index: int) -> Group:
    """A group of a random kind: without a prompt, with two contexts, 0 to 5 responses (some withheld), any feedback."""
    contexts = draw.choice([{}, {"main": Prompt(content=f"q{draw.randrange(30)}")}, {"main": Prompt(content="l"), "other": Prompt(content="r")}])
    num = draw.randrange(6)
    responses = tuple(
        Response(content=draw.choice(WORDS), context=draw.choice(sorted(contexts) or ["main"]), scores=draw.choice([{}, {"rm": draw.random()}]))
        for _ in range(num)
    )
    who = ("ann", "bob", "judge:j", "gold", None)
    verdicts = [any_verdict(draw, num, draw.choice(who)) for _ in range(draw.randrange(5) if num > 1 else 0)]
    ratings = [
        Rating(response=draw.randrange(num), value=draw.choice([0, 1, "abstain"]), scale=(0, 1), annotator=draw.choice(who))
        for _ in range(draw.randrange(4) if num else 0)
    ]
    return Group(id=f"g{index}", contexts=contexts, responses=responses, verdicts=tuple(verdicts), ratings=tuple(ratings))


def any_verdict(draw: random.Random, num: int, annotator: str | None) -> Verdict:
    named = draw.sample(range(num), draw.randint(2, num))
    tiers: list[tuple[int, ...]] = [(index,) for index in named]
    if draw.random() < 0.3:
        tiers[:2] = [(named[0], named[1])]
    return Verdict(tiers=tuple(tiers), annotator=annotator, presented=draw.choice([None, tuple(draw.sample(named, len(named)))]))


def mirrored(group: Group) -> Group:
    """The group with its responses in the reverse order and its feedback about the same texts."""
    last = len(group.responses) - 1
    verdicts = [
        replace(
            verdict,
            tiers=tuple(tuple(last - index for index in tier) for tier in verdict.tiers),
            presented=None if verdict.presented is None else tuple(last - index for index in verdict.presented),
        )
        for verdict in group.verdicts
    ]
    ratings = [replace(rating, response=last - rating.response) for rating in group.ratings]
    return replace(group, responses=group.responses[::-1], verdicts=tuple(verdicts), ratings=tuple(ratings))


def counts(diagnosis: Diagnosis) -> dict[tuple[str, str], object]:
    return {(name, number): diagnosis.of(name).numbers[number] for name, numbers in COUNTS.items() for number in numbers}


@pytest.mark.parametrize("seed", range(3))
def test_order_of_groups_and_responses_changes_no_count(seed: int) -> None:
    draw = random.Random(seed)
    groups = [any_group(draw, index) for index in range(80)]
    found = counts(examine(groups))
    shuffled = draw.sample(groups, len(groups))
    assert counts(examine(shuffled)) == found
    assert counts(examine([mirrored(group) for group in groups])) == found


def test_any_groups_are_examined_with_a_model_too() -> None:
    draw = random.Random(7)
    groups = [any_group(draw, index) for index in range(60)]
    diagnosis = examine(groups, model=tiny.policy())
    json.dumps(diagnosis.to_dict(), allow_nan=False)
    refused = diagnosis.of("refused").numbers
    policy = tiny.policy()
    assert refused["rows"] - refused["trained"] == sum(len(policy.admit(group)) for group in groups)
    assert diagnosis.render().count("\n") > 20
