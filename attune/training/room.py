"""Room for a pass: what running out of memory looks like, and what is left out or made smaller then."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from attune.core.errors import AttuneError, RunError
from attune.core.protocols import Size
from attune.training.distributed import World
from attune.training.microbatch import Budget, Skipped

_SAID_BY_THE_CPU = ("not enough memory", "can't allocate memory", "bad_alloc")


class NoRoom(Exception):
    """What was computed on one or several ranks did not fit into memory."""

    def __init__(self, failures: list[Size]) -> None:
        self.failures = failures
        super().__init__(failures)


class Room:
    """The budget of a run's passes, and what happened to it.

    Attributes:
        budget: of the next attempt.
        running: what is being computed, should memory run out meanwhile.
        skipped: rows that were left out since `told`, on this rank.
    """

    def __init__(self, budget: Budget, world: World) -> None:
        self.budget, self.world = budget, world
        self.running: Size | None = None
        self._events: list[Mapping[str, Any]] = []
        self._seen: set[Skipped] = set()

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Ends when all ranks have done the block, or raises on all of them.

        Raises:
            NoRoom: memory ran out on one of them or more.
            AttuneError: what was raised on one of them, RunError on the others.
        """
        failed, error = None, None
        try:
            yield
        except (RuntimeError, MemoryError) as problem:
            if not out_of_memory(problem) or self.running is None:
                raise
            failed = self.running
        except AttuneError as problem:
            error = problem
        if failed is not None and self.world.sharded:
            mend = "set train.tokens_per_pass lower: ranks that share their weights cannot begin a pass anew"
            raise RunError("a pass does not fit into memory", field="train.tokens_per_pass", value=failed.tokens, mend=mend)
        said = self.world.gathered((failed, None if error is None else str(error)))
        if error is not None:
            raise error
        for rank, (_, words) in enumerate(said):
            if words is not None:
                raise RunError(f"{words} (said by rank {rank})")
        failures = [one for one, _ in said if one is not None]
        if failures:
            raise NoRoom(failures)

    def shrink(self, failures: list[Size]) -> None:
        """Lowers the budget after an attempt that failed, and frees what that has left behind."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        before, self.budget = self.budget, self.budget.after(failures)
        if self.budget.tokens != before.tokens:
            failed = max(size.tokens for size in failures)
            self._events.append({"event": "smaller passes", "tokens_per_pass": self.budget.tokens, "before": before.tokens, "failed": failed})

    def skip(self, skipped: list[Skipped]) -> int:
        """Notes rows that are left out, each once a run, and returns how many there are."""
        for one in skipped:
            if one not in self._seen:
                self._seen.add(one)
                row = {"group": one.group, "response": one.response, "role": one.role, "tokens": one.tokens, "reason": one.reason}
                self._events.append({"event": "row skipped", **row})
        return len(skipped)

    def told(self) -> list[Mapping[str, Any]]:
        """Returns what happened on all ranks since the last call, and forgets it; smaller passes, which all ranks decide on together, once."""
        own, self._events = self._events, []
        found = self.world.gathered(own)
        return [*found[0], *(event for other in found[1:] for event in other if event["event"] != "smaller passes")]


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that there was no memory: of a GPU, or of the allocator of the CPU, which has no error of its own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_BY_THE_CPU)
