"""Which signals fit: one kind of feedback after the other, counted by hand, and what the verdict says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attune.core.record import Group, Rating
from attune.core.signal import Signal
from attune.diagnostics.doctor import examine
from attune.diagnostics.feedback.fitting import fitting
from attune.signals.labels.thumbs import thumbs
from attune.signals.pairs.all_pairs import all_pairs
from tests.diagnostics.make import clean, group, said, won

BEST = "demonstrations (which: best, by: ratings)"
SCORED = {"threshold (by: scores)": 1, "demonstrations (which: best, by: scores)": 1}


def stars(*values: int, scale: tuple[int, int] | None = (1, 5)) -> list[Rating]:
    return [Rating(response=index, value=value, scale=scale) for index, value in enumerate(values)]


def scored(name: str, *scores: float) -> Group:
    made = group(name, *map(str, scores))
    return replace(made, responses=tuple(replace(one, scores={"rm": score}) for one, score in zip(made.responses, scores, strict=True)))


@pytest.mark.parametrize(
    ("groups", "made", "level"),
    [
        # the ranking of three implies 3 pairs
        ([group("g1", "a", "b", "c", verdicts=[said((2,), (0,), (1,))]), group("g2", "a", "b", verdicts=[won(0, 1)])], {"all_pairs": 4}, "ok"),
        # 5 > 3 = 3: two pairs, one label above the middle and none on it, one best
        ([group("g1", "a", "b", "c", ratings=stars(5, 3, 3))], {"threshold": 2, "thumbs": 1, BEST: 1}, "note"),
        # without a scale there is no middle
        ([group("g1", "a", "b", ratings=stars(9, 2, scale=None))], {"threshold": 1, BEST: 1}, "note"),
        # one rated response alone: a label, and no demonstration, since it may be rated badly
        ([group(f"g{index}", "a", ratings=stars(index, scale=(0, 1))) for index in (0, 1)], {"thumbs": 2}, "note"),
        ([group("g1", "a"), group("g2", "b"), group("g3")], {"demonstrations": 2}, "note"),
        ([scored("g1", 0.1, 0.9)], SCORED, "note"),
        # a tie decides nothing
        ([group("g1", "a", "b", verdicts=[said((0, 1))])], {}, "note"),
    ],
)
def test_what_each_signal_would_make(groups: list[Group], made: dict[str, int], level: str) -> None:
    (found,) = fitting(groups)
    assert {name: num for name, num in found.numbers["made"].items() if num} == made
    assert found.level == level
    assert all(name in found.headline and (level == "ok" or name in found.mend) for name in made)
    assert "\n" not in found.headline


def test_groups_that_cannot_be_trained_on_fit_nothing() -> None:
    lost = [group("g1", "a", "b", prompt="", verdicts=[won(0, 1)]), group("g2", None, None, verdicts=[won(0, 1)])]
    assert fitting(lost) == () == fitting([])
    assert fitting([*lost, *clean(3)])[0].numbers["groups"] == 3


def test_prompts_alone_and_responses_that_nobody_judged() -> None:
    assert "prompts alone" in fitting([group("g1"), group("g2")])[0].mend
    assert "rate or compare the responses" in fitting([group("g1"), group("g2", "a", "b")])[0].mend


def test_the_verdict_says_that_another_signal_is_needed() -> None:
    rated = [group(f"g{index}", f"a{index}", ratings=stars(index % 2, scale=(0, 1))) for index in range(10)]
    conclusion, advice = examine(rated).verdict
    assert conclusion == "Nothing here speaks against training on this, with a signal that fits."
    assert advice == "fitting: data.signal has to be thumbs here: all_pairs, its default, finds no verdict that decides"
    assert examine(rated, signal=thumbs).verdict == ("Nothing here speaks against training on this.",)
    first, *others = examine(rated, signal=all_pairs).verdict
    assert first.startswith("Do not train on this yet: 1 finding")
    assert [line.split(":")[0] for line in others] == ["signal", "fitting"]
    # on pairs, a signal that makes nothing is the only thing wrong
    assert [line.split(":")[0] for line in examine(clean(), signal=lambda _: Signal()).verdict[1:]] == ["signal"]
