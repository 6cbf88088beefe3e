"""A reward model: a policy whose outputs give one score a response. Letters: N rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from attune.core.errors import ConfigError, RecordError
from attune.core.protocols import Policy, Row
from attune.core.record import Group
from attune.policies.causal import evaluating


class ScalarReward:
    """Scores of a policy's reward head.

    A model fitted to comparisons within prompts fixes its scores up to a constant for each prompt, so they are comparable there only.
    """

    scope: Literal["prompt", "global"] = "prompt"

    def __init__(self, policy: Policy, *, batch_size: int = 64, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Scores with the policy's weights as they are when `score` is called.

        Args:
            policy: gives the output `reward`.
            batch_size: responses computed at once, at most, but always whole groups; it changes no score.
            on_progress: called with groups done and groups in all.
        """
        if batch_size < 1:
            raise ConfigError("out of range", field="batch_size", value=batch_size, allowed="at least 1")
        self.policy, self.batch_size, self.on_progress = policy, batch_size, on_progress

    def score(self, groups: Sequence[Group]) -> list[list[float]]:
        """Returns one score for each response of each group.

        Raises:
            RecordError: a response that the policy cannot read; `policy.admit` says so beforehand.
        """
        found: list[list[float]] = []
        with torch.no_grad(), evaluating(self.policy.module):
            for chunk in self._chunks(groups):
                found += self._scores(chunk)
                if self.on_progress is not None:
                    self.on_progress(len(found), len(groups))
        return found

    def _chunks(self, groups: Sequence[Group]) -> list[list[Group]]:
        chunks: list[list[Group]] = []
        room = 0
        for group in groups:
            if len(group.responses) > room or not chunks:
                chunks.append([])
                room = self.batch_size
            chunks[-1].append(group)
            room -= len(group.responses)
        return chunks

    def _scores(self, groups: Sequence[Group]) -> list[list[float]]:
        for group in groups:
            for index, reason in self.policy.admit(group).items():
                mend = "leave it out, or allow more tokens"
                raise RecordError(f"a response cannot be scored: {reason}", field=f"{group.id}.responses[{index}]", mend=mend)
        rows = [Row(group=g, response=i, context=response.context) for g, group in enumerate(groups) for i, response in enumerate(group.responses)]
        if not rows:
            return [[] for _ in groups]
        reward_N = iter(self.policy.outputs(self.policy.collate(groups, rows), ("reward",))["reward"].tolist())
        return [[next(reward_N) for _ in group.responses] for group in groups]
