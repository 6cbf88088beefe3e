"""A sampler that says what it is told: for tests, and for worlds whose answers come from a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attune.core.protocols import SamplingParams
from attune.core.record import Group, Response

Script = Callable[[Group, int], str]
"""Takes a group and the number of the sample and returns the response's text."""


@dataclass(frozen=True, slots=True)
class ScriptedSampler:
    """Answers from a script; parameters and seed change nothing."""

    script: Script
    name: str = "script"
    # goes into Response.generator

    def sample(self, groups: Sequence[Group], *, k: int, params: SamplingParams, seed: int) -> list[Group]:
        """Returns the groups with k scripted responses each, without token ids or log-probabilities."""
        return [
            replace(group, responses=tuple(Response(content=self.script(group, index), generator=self.name) for index in range(k)), verdicts=(), ratings=())
            for group in groups
        ]

    def exact(self, params: SamplingParams) -> bool:
        """Returns False: a script follows no policy."""
        return False
