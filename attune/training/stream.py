"""Items that are read when they are asked for: data larger than memory, at constant memory.

What becomes of a record is a function of the record alone, and which records an update reads is a function of the update's number. So
nothing has to be remembered between updates but an account, and that grows by reasons, not by records.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, overload

import numpy as np

from attune.core.errors import ConfigError, TooManyBadRecords
from attune.core.protocols import Policy
from attune.core.record import Group
from attune.data.account import ENOUGH, Finding
from attune.data.split import asked
from attune.runs.directory import RunDirectory
from attune.training.distributed import SINGLE, World
from attune.training.source import Intake, Item, Offered, Order, SignalFn, offer, shuffled

BAD = "record: it cannot be read"
"""Why a record is left out that is no group; the account lists what is wrong with it in place of an id."""
HELD_OUT = "group: its prompt is held out"
MOST_IDS = 1000
"""Ids that the account keeps of each reason; more are counted only."""
_ATTEMPTS = 64  # other records tried in place of one that cannot be used
_SHOWN = 3  # bad records that an error message repeats


class Records(Protocol):
    """Records by number."""

    def __len__(self) -> int: ...
    def read(self, number: int) -> Group | Finding: ...


class Stream(Sequence[Item]):
    """What is trained on, read from the records whenever it is asked for.

    In place of a record that cannot be used stands another one, drawn by its number: an update keeps its size, and every rank agrees on it.

    Args:
        records: where to read.
        skipped: numbers of the records that are held out, rising.
        signal, policy, needs: see `offer`.
        prompts: of the held-out groups (`attune.data.split.asked`); a record that asks the same is left out.
        recent: reads that are remembered, so that an item asked for twice within an update is read once.
    """

    def __init__(
        self,
        records: Records,
        *,
        skipped: Sequence[int] = (),
        signal: SignalFn,
        policy: Policy,
        needs: Collection[str],
        prompts: Collection[str] = (),
        recent: int = 256,
    ) -> None:
        self._records, self._signal, self._policy, self._needs = records, signal, policy, needs
        self._prompts, self._most_recent = frozenset(prompts), recent
        self._before = [number - index for index, number in enumerate(skipped)]  # what is trained on stands before each held-out record
        self._recent: OrderedDict[int, Offered] = OrderedDict()
        self._num = len(records) - len(skipped)

    def __len__(self) -> int:
        return self._num

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        """Returns an item; raises ConfigError where neither the record nor those tried in its place can be used."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._num))]
        if not -self._num <= index < self._num:
            raise IndexError(index)
        index %= self._num
        for attempt in range(_ATTEMPTS):
            other = int(shuffled(np.array([index]), self._num, attempt)[0]) if attempt else index
            found = self.offered(other)
            if found.item is not None:
                return found.item
        why = ", ".join(reason for reason, _ in self.offered(index).left_out)
        raise ConfigError(
            f"nothing is left to train on: {_ATTEMPTS} records in a row cannot be used, the first one because of {why}",
            field="data",
            mend="`attune doctor` says what a sample of the groups holds and which signal reads it",
        )

    def group(self, index: int) -> Group | Finding:
        """Returns what stands in the records at an index, or what is wrong with it."""
        return self._records.read(index + bisect_right(self._before, index))

    def offered(self, index: int) -> Offered:
        """Returns what became of the record at an index."""
        if index in self._recent:
            self._recent.move_to_end(index)
            return self._recent[index]
        found = self._recent[index] = self._offer(self.group(index))
        if len(self._recent) > self._most_recent:
            self._recent.popitem(last=False)
        return found

    def _offer(self, group: Group | Finding) -> Offered:
        if isinstance(group, Finding):
            return Offered(str(group), None, ((BAD, 1),))
        if self._prompts and asked(group) in self._prompts:
            return Offered(group.id, None, ((HELD_OUT, 1),))
        return offer(group, self._signal, self._policy, self._needs)


class Journal:
    """What became of the records met so far, each counted once however often it is read, over all ranks and over interruptions.

    As long as the first epoch lasts, each update appends a line to intake.jsonl; the sum of the lines is the account. A line that an
    interruption lost is made again, since what becomes of a record follows from the record.

    Args:
        stream: what is read.
        order: by which it is read.
        run: where the lines go; written by one rank, read by all.
        max_bad: the largest share of records, in [0, 1], that may be unusable.
        num_cut: says how many responses of an item are trained on cut; None: none ever are.
        world: whose ranks read.
    """

    def __init__(
        self,
        stream: Stream,
        order: Order,
        run: RunDirectory,
        *,
        max_bad: float,
        num_cut: Callable[[Item], int] | None = None,
        world: World = SINGLE,
    ) -> None:
        self.stream, self.order, self.run, self.max_bad, self.world = stream, order, run, max_bad, world
        self.intake = Intake(most=MOST_IDS)
        self.num_cut = num_cut
        self._done: int | None = None

    def note(self, done: int) -> None:
        """Counts the records of the update that has just been made; the first time, also what was counted before an interruption.

        Args:
            done: updates made, this one included. All ranks call it, after each update.

        Raises:
            TooManyBadRecords: on all ranks.
        """
        if self._done is None:
            self._done = self._take_up(done - 1)
        for update in range(self._done, done):
            self._count(update)
        self._done = done
        check_bad(self.intake, self.max_bad)

    def _count(self, update: int) -> None:
        new = min(self.order.per_update, len(self.stream) - update * self.order.per_update)  # the rest is of a later epoch
        if new <= 0:
            return
        own = Intake(most=MOST_IDS)
        indices = self.order(update)
        for place in self.world.share(new):
            found = self.stream.offered(indices[place])
            own.count(found)
            if self.num_cut is not None and found.item is not None:
                own.cut += self.num_cut(found.item)
        whole = Intake(most=MOST_IDS)
        for said in self.world.gathered(own.to_dict()):
            whole.add(Intake.from_dict(said))
        self.intake.add(whole)
        self.run.append("intake.jsonl", [{"update": update + 1, **whole.to_dict()}])

    def _take_up(self, done: int) -> int:
        """Adds the lines of the updates that the run goes on from; returns up to which update they reach."""
        last = 0
        for line in self.run.lines("intake.jsonl"):
            if line["update"] == last + 1 <= done:
                self.intake.add(Intake.from_dict(line))
                last += 1
        self.world.gathered(None)  # all ranks have read
        self.run.truncate("intake.jsonl", last)
        return last


def check_bad(intake: Intake, max_bad: float) -> None:
    """Raises TooManyBadRecords where a larger share of the records met cannot be read; before a share means something, nothing."""
    bad = intake.reasons[BAD]
    if intake.groups >= ENOUGH and bad > max_bad * intake.groups:
        first = "; ".join(intake.ids[BAD][:_SHOWN])
        more = f"; and {bad - _SHOWN} more" if bad > _SHOWN else ""
        raise TooManyBadRecords(f"{bad} of the {intake.groups} records met so far cannot be used, {max_bad:.4g} of them may be bad: {first}{more}")
