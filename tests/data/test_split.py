"""Splitting by prompt: no prompt on two sides, no side changes when data grows."""

from __future__ import annotations

import hashlib

import pytest

from attune.core.errors import ConfigError
from attune.core.record import Group, Prompt, Response
from attune.data.split import asked, side, split

SHARES = {"train": 0.8, "test": 0.2}


def group(prompt: str, answer: str = "a", **more: object) -> Group:
    return Group(id=f"{prompt}/{answer}", contexts={"main": Prompt(content=prompt)}, responses=(Response(content=answer),), **more)


def test_one_prompt_stands_on_one_side_whoever_answers() -> None:
    groups = [group(f"p{number % 50}", f"a{number}", user=f"u{number % 3}") for number in range(300)]
    sides = split(groups, SHARES)
    prompts = [{one.prompt.content for one in part} for part in sides.values()]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, sides.values())) == 300


def test_new_data_moves_no_old_group() -> None:
    old, new = [group(f"p{number}") for number in range(100)], [group(f"q{number}") for number in range(100)]
    before, after = split(old, SHARES, seed=3), split([*new, *reversed(old)], SHARES, seed=3)
    assert {one.id for one in before["test"]} == {one.id for one in after["test"] if one.id.startswith("p")}


def test_the_place_is_the_hash_of_seed_and_words() -> None:
    # sha256 of '[["p",{"$tuple":[]}]...' worked out by its definition: SHA-256 over "<seed>:<digest of words and images>"
    one = group("p  q")
    inner = hashlib.sha256(b'["p q",{"$tuple":[]}]').hexdigest()
    assert asked(one) == inner
    place = int(hashlib.sha256(f"5:{inner}".encode()).hexdigest()[:16], 16) / 2**64
    assert side(one, {"a": 0.25, "b": 0.25, "c": 0.5}, seed=5) == ("a" if place < 0.25 else "b" if place < 0.5 else "c")


def test_shares_come_out_near_and_seeds_differ() -> None:
    groups = [group(f"p{number}") for number in range(2000)]
    sizes = [len(split(groups, SHARES, seed=seed)["test"]) for seed in range(3)]
    # 400 expected, standard deviation sqrt(2000 * 0.2 * 0.8) = 17.9: five of them
    assert all(abs(size - 400) < 90 for size in sizes)
    assert split(groups, SHARES, seed=0)["test"] != split(groups, SHARES, seed=1)["test"]


def test_a_question_as_text_and_as_a_turn_falls_on_one_side() -> None:
    turn = Group(id="t", contexts={"main": Prompt(content=({"role": "user", "content": "p"},))})
    assert asked(turn) == asked(group("p"))
    assert asked(Group(id="i", contexts={"main": Prompt(content="p", images=("x",))})) != asked(group("p"))


def test_joint_prompts_and_no_prompts() -> None:
    two = {"left": Prompt(content="a"), "right": Prompt(content="b")}
    assert asked(Group(id="1", contexts=two)) == asked(Group(id="2", contexts=dict(reversed(two.items()))))
    assert asked(Group(id="1")) != asked(Group(id="2"))


@pytest.mark.parametrize(
    ("shares", "field"), [({"a": 0.5, "b": 0.4}, "shares"), ({"a": 1.2, "b": -0.2}, "shares.a"), ({"a": 1.0, "b": 0.0}, "shares.b"), ({}, "shares")]
)
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split([], shares)
    assert caught.value.field == field


def test_thirds_add_up() -> None:
    third = 1 / 3
    assert sum(map(len, split([group(f"{number}") for number in range(30)], {"a": third, "b": third, "c": third}).values())) == 30
