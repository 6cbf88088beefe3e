"""What every measured process shares, on both sides: its allocator, its memory, and turns on the driver's word. Standard library only.

A worker builds its model and data, says it is ready, and then waits. On `turn` it runs some updates that are not timed (they bring back the
pages that were given up) and some that are; between turns it holds no more memory than its weights and moments, so several workers fit beside
each other and only one computes at a time.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_KIB = 1024


def tune_allocator() -> None:
    """Stops glibc from giving big blocks back to the kernel at each free: no mmap, no trim, a large top pad: what attune does by itself."""
    libc = ctypes.CDLL(None)
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * _KIB * _KIB)):
        libc.mallopt(ctypes.c_int(option), ctypes.c_int(value))


def resident(name: str = "VmRSS") -> int:
    """Returns bytes of this process in memory now (VmRSS), or at most since the last `forget_peak` (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * _KIB
    raise OSError(f"/proc/self/status has no {name}")


def give_back() -> None:
    """Gives free memory back to the kernel."""
    ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Lets VmHWM begin anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


class Turns:
    """The worker's end of the conversation with the driver: JSON lines in on stdin, out on what was stdout when it began."""

    def __init__(self) -> None:
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, this process goes, not the driver
        self.spec: dict[str, Any] = json.loads(sys.argv[1])
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print is no part of the conversation
        self._left = 0
        self._timed = 0
        self._seconds: list[float] = []
        self._losses: list[float] = []
        self._cpu: list[float] = []
        self._since = (0.0, 0.0)

    def say(self, **what: Any) -> None:
        """Sends one line to the driver."""
        self._out.write(json.dumps(what) + "\n")

    def ready(self, **what: Any) -> None:
        """Says that everything is built, and waits for the first turn."""
        give_back()
        self.say(event="ready", resident=resident(), **what)
        self._wait()

    def done(self, loss: Callable[[], float]) -> None:
        """Called after every update; returns when the next one may begin.

        Args:
            loss: gives the update's loss; called outside what is timed.
        """
        seconds, cpu = (now - before for now, before in zip(_clocks(), self._since, strict=True))
        self._losses.append(loss())
        self._left -= 1
        if self._left < self._timed:
            self._seconds.append(seconds)
            self._cpu.append(cpu)
        if self._left == 0:
            peak = resident("VmHWM")
            give_back()
            self.say(event="turn", seconds=self._seconds, cpu=self._cpu, losses=self._losses, peak=peak, resident=resident())
            self._wait()
        else:
            self._since = _clocks()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line.strip():
            os._exit(0)  # the driver has gone, or has what it wanted
        command = json.loads(line)
        self._left, self._timed = command["warm"] + command["timed"], command["timed"]
        self._seconds, self._cpu, self._losses = [], [], []
        forget_peak()
        self._since = _clocks()


def _clocks() -> tuple[float, float]:
    """Returns seconds by the wall, and seconds of all processors that this process has had."""
    return time.perf_counter(), time.process_time()
