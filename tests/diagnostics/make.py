"""Groups made by hand for the tests of the probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attune.core.record import MAIN, Content, Group, Prompt, Rating, Response, Source, Verdict

FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)


def group(name: str, *texts: Content | None, prompt: str | None = None, verdicts: Sequence[Verdict] = (), ratings: Sequence[Rating] = ()) -> Group:
    """A group of text responses; its prompt is its name unless it is given, "" for none; its line is the number at the end of its name."""
    asked = name if prompt is None else prompt
    digits = name.lstrip("abcdefghijklmnopqrstuvwxyz-")
    return Group(
        id=name,
        contexts={MAIN: Prompt(content=asked)} if asked else {},
        responses=tuple(Response(content=text) for text in texts),
        verdicts=tuple(verdicts),
        ratings=tuple(ratings),
        source=Source(file="made.jsonl", line=int(digits) if digits else None),
    )


def said(*tiers: Sequence[int], by: str | None = None, shown: Sequence[int] | None = None) -> Verdict:
    """A verdict from best to worst."""
    return Verdict(tiers=tuple(map(tuple, tiers)), annotator=by, presented=None if shown is None else tuple(shown))


def won(winner: int, loser: int, *, by: str | None = None) -> Verdict:
    """A verdict on two responses."""
    return said((winner,), (loser,), by=by)


def clean(num: int = 60) -> list[Group]:
    """Pairs with nothing wrong: two annotators who agree, each text as long as the other, shown and preferred in every combination equally often."""
    found = []
    for index in range(num):
        best, shown_first = index % 2, index // 2 % 2
        texts = (f"answer {index:03d} yes", f"answer {index:03d} no.")
        order = (shown_first, 1 - shown_first)
        verdicts = [said((best,), (1 - best,), by=name, shown=order) for name in ("ann", "bob")]
        found.append(group(f"clean-{index}", *texts, verdicts=verdicts))
    return found


def lines(groups: Sequence[Group], at: Sequence[int], changed: Group) -> list[Group]:
    """The groups with those at some places replaced by copies of `changed` that keep their own name, prompt and source."""
    found = list(groups)
    for place in at:
        old = found[place]
        found[place] = replace(changed, id=old.id, contexts=old.contexts, source=old.source)
    return found
