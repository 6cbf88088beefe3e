"""A reward that a function computes: a world's gold reward, or a rule of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from attune.core.record import Group, Prompt, Response


@dataclass(frozen=True, slots=True)
class CallableReward:
    """Scores each response alone, by a function of the prompt it answers and of itself."""

    fn: Callable[[Prompt, Response], float]
    scope: Literal["prompt", "global"] = "global"
    # whether the function's values may be compared across prompts

    def score(self, groups: Sequence[Group]) -> list[list[float]]:
        """Returns one score for each response of each group."""
        return [[float(self.fn(group.contexts[response.context], response)) for response in group.responses] for group in groups]
