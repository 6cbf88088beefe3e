"""Which signals would make something of the feedback: what a recipe's `data.signal` can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from attune.core.record import Group
from attune.core.signal import Signal
from attune.diagnostics.finding import Finding, many
from attune.signals.demos.demonstrations import demonstrations
from attune.signals.labels.thumbs import thumbs
from attune.signals.pairs.all_pairs import all_pairs
from attune.signals.pairs.threshold import threshold

DEFAULT = "all_pairs"
"""The signal of a recipe that names none."""


@dataclass(frozen=True, slots=True)
class Way:
    """A signal with parameters, and the groups that it is meant for."""

    signal: Callable[[Group], Signal]
    makes: str
    # one of what it makes
    serves: str
    # an objective that reads it
    suits: Callable[[Group], bool] = lambda _: True


def _several(group: Group) -> bool:
    return len(group.responses) > 1


def _unrated(group: Group) -> bool:
    return not group.ratings and not any(response.scores for response in group.responses)


WAYS: Mapping[str, Way] = {
    DEFAULT: Way(all_pairs, "pair", "dpo"),
    "threshold": Way(threshold, "pair", "dpo"),
    "threshold (by: scores)": Way(partial(threshold, by="scores"), "pair", "dpo"),
    "thumbs": Way(thumbs, "label", "kto"),
    # what somebody rated alone may be rated badly
    "demonstrations": Way(demonstrations, "demonstration", "sft", _unrated),
    "demonstrations (which: best, by: ratings)": Way(partial(demonstrations, which="best", by="ratings"), "demonstration", "sft", _several),
    "demonstrations (which: best, by: scores)": Way(partial(demonstrations, which="best", by="scores"), "demonstration", "sft", _several),
}


def fitting(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "fitting": what each signal would make of the groups that can be trained on; a note where the default one makes nothing."""
    asked = [group for group in groups if not group.untrainable]
    if not asked:
        return ()
    made = {name: sum(_num(way.signal(group)) for group in asked if way.suits(group)) for name, way in WAYS.items()}
    told = [f"{name} makes {many(num, WAYS[name].makes)} ({WAYS[name].serves})" for name, num in made.items() if num]
    return (
        Finding(
            name="fitting",
            level="ok" if made[DEFAULT] else "note",
            headline="; ".join(told) or f"no signal makes anything of {many(len(asked), 'group')}",
            numbers={"groups": len(asked), "made": made},
            mend="" if made[DEFAULT] else _mend([name for name, num in made.items() if num], any(group.responses for group in asked)),
        ),
    )


def _num(signal: Signal) -> int:
    return len(signal.pairs) + len(signal.demos) + len(signal.labels)


def _mend(names: Sequence[str], answered: bool) -> str:
    if names:
        return f"data.signal has to be {' or '.join(names)} here: {DEFAULT}, its default, finds no verdict that decides"
    if answered:
        return "rate or compare the responses first, or imitate all of them with demonstrations (which: all)"
    return "these are prompts alone: sample responses and rate or compare them first"
