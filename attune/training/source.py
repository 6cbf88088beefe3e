"""What is trained on, in which order: groups with their signal, cut to what the policy can read, every loss of data counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from attune.core.protocols import Policy, Row
from attune.core.record import Group
from attune.core.signal import Signal

SignalFn = Callable[[Group], Signal]


@dataclass(frozen=True, slots=True)
class Item:
    """A group and what it says, in terms of responses that can be trained on."""

    group: Group
    signal: Signal


@dataclass(slots=True)
class Intake:
    """What became of the groups that were offered."""

    groups: int = 0
    kept: int = 0
    responses: int = 0
    # that a kept group trains on
    reasons: Counter[str] = field(default_factory=Counter)
    # why a response, verdict or group was left out -> how many
    ids: dict[str, list[str]] = field(default_factory=dict)
    # the same reasons -> ids of the groups concerned

    def leave_out(self, reason: str, group: Group, num: int = 1) -> None:
        self.reasons[reason] += num
        ids = self.ids.setdefault(reason, [])
        if not ids or ids[-1] != group.id:
            ids.append(group.id)

    def to_dict(self) -> dict[str, Any]:
        return {
            "groups": self.groups,
            "kept": self.kept,
            "dropped": self.groups - self.kept,
            "responses": self.responses,
            "reasons": dict(self.reasons),
            "ids": self.ids,
        }


def rows_of(item: Item) -> list[Row]:
    """Returns a row for each response that the item's signal speaks of, read behind its own prompt, as those of a batch of this one group."""
    return [Row(group=0, response=index, context=item.group.responses[index].context) for index in item.signal.responses]


def take(groups: Iterable[Group], signal: SignalFn, policy: Policy, needs: Sequence[str]) -> tuple[list[Item], Intake]:
    """Returns the groups that can be trained on, with their signal, and an account of the rest.

    Args:
        groups: feedback.
        signal: turns a group into pairs, labels, scores or demonstrations.
        policy: says which responses it cannot read, and why.
        needs: columns that the objectives read; a group that fills none of the feedback columns among them is left out.
    """
    items: list[Item] = []
    intake = Intake()
    for group in groups:
        intake.groups += 1
        if group.untrainable:
            intake.leave_out(f"group: {group.untrainable}", group)
            continue
        said = signal(group)
        for reason, num in said.dropped.items():
            intake.leave_out(reason, group, num)
        refused = {index: reason for index, reason in policy.admit(group).items() if index in said.responses}
        for reason in refused.values():
            intake.leave_out(f"response: {reason}", group)
        said = without(said, refused)
        if not usable(said, needs):
            intake.leave_out("group: nothing left to train on", group)
            continue
        intake.kept += 1
        intake.responses += len(said.responses)
        items.append(Item(group, said))
    return items, intake


FEEDBACK = ("pairs", "demo", "label", "score")
"""Columns that only the signal can fill."""


def usable(signal: Signal, needs: Sequence[str]) -> bool:
    """Returns whether a signal fills a feedback column that is needed; where none is needed, whether it names any response."""
    filled = dict(zip(FEEDBACK, map(bool, (signal.pairs, signal.demos, signal.labels, signal.scores)), strict=True))
    wanted = [name for name in filled if name in needs]
    return any(filled[name] for name in wanted) if wanted else bool(signal.responses)


def without(signal: Signal, refused: Mapping[int, str]) -> Signal:
    """Returns the signal less everything that speaks of a refused response."""
    return replace(
        signal,
        pairs=tuple(pair for pair in signal.pairs if pair.first not in refused and pair.second not in refused),
        demos=tuple(index for index in signal.demos if index not in refused),
        labels={index: label for index, label in signal.labels.items() if index not in refused},
        scores={index: score for index, score in signal.scores.items() if index not in refused},
    )


class Order:
    """Which items make which update: a function of the update's number alone, so a run resumes anywhere without remembering more.

    Args:
        num_items: how many there are, at least one.
        per_update: items an update uses; at most all of them.
        seed: of the order.
        shuffle: whether each epoch has its own order; otherwise the given one is kept.
    """

    def __init__(self, num_items: int, per_update: int, *, seed: int, shuffle: bool) -> None:
        self.num_items, self.per_update = num_items, min(per_update, num_items)
        self.seed, self.shuffle = seed, shuffle

    def num_updates(self, epochs: float) -> int:
        """Returns how many updates see the items `epochs` times; the last one may begin the next pass."""
        return max(1, math.ceil(epochs * self.num_items / self.per_update - 1e-9))

    def __call__(self, update: int) -> list[int]:
        """Returns the indices of the items of an update (0-based); epochs follow each other without a gap."""
        first = update * self.per_update
        places = range(first, first + self.per_update)
        orders = {epoch: self._epoch(epoch) for epoch in {place // self.num_items for place in places}}
        return [orders[place // self.num_items][place % self.num_items] for place in places]

    def _epoch(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.num_items))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(self.num_items, generator=generator).tolist()
