"""Mixes several sources of groups by weight."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from attune.core.errors import ConfigError
from attune.core.record import Group

Exhausted = Literal["stop", "drop", "restart"]


def mix(sources: Mapping[str, Iterable[Group]], weights: Mapping[str, float], *, when_exhausted: Exhausted, seed: int = 0) -> Iterator[Group]:
    """Yields groups, each drawn from a source that is chosen with probability proportional to its weight.

    Args:
        sources: name -> groups, in the order in which they are to come; iterated again for "restart".
        weights: name -> relative weight, positive; a weight for every source and for no other.
        when_exhausted: what happens when a source has no more groups:
            "stop": the mixture ends (the proportions hold to the end, the rest of the others is not used);
            "drop": the others go on by their weights until all are used up (every group comes exactly once);
            "restart": it starts over, until every source has come to its end once (groups of the smaller ones come again).
        seed: of the draws; the same seed gives the same order.

    Raises:
        ConfigError: weights that do not match the sources, are not positive, an unknown policy, or (for "restart") a source without groups.
    """
    if when_exhausted not in ("stop", "drop", "restart"):
        raise ConfigError("the policy is not known", field="when_exhausted", value=when_exhausted, allowed="stop, drop, restart")
    if not sources or sources.keys() != weights.keys():
        raise ConfigError("every source has a weight", field="weights", value=sorted(weights), allowed=", ".join(sorted(sources)) or "at least one source")
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise ConfigError("a weight is positive", field=f"weights.{name}", value=weight, allowed="a number above 0")
    return _draw(sources, weights, when_exhausted, random.Random(seed))


def _draw(sources: Mapping[str, Iterable[Group]], weights: Mapping[str, float], when_exhausted: Exhausted, rng: random.Random) -> Iterator[Group]:
    streams = {name: iter(groups) for name, groups in sources.items()}
    unfinished = set(streams)
    while streams:
        names = list(streams)
        (name,) = rng.choices(names, [weights[one] for one in names])
        group = next(streams[name], None)
        if group is None:
            unfinished.discard(name)
            if when_exhausted == "stop" or (when_exhausted == "restart" and not unfinished):
                return
            if when_exhausted == "drop":
                del streams[name]
                continue
            streams[name] = iter(sources[name])
            group = next(streams[name], None)
            if group is None:
                raise ConfigError(
                    "a source that starts over holds groups, and can be read again", field=f"sources.{name}", value=0, allowed="at least one group"
                )
        yield group
