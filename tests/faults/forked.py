"""Children forked from this warm process: they start in milliseconds, die for real, and share nothing with it afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch

LONGEST = 120.0
"""Seconds after which a child that hangs is killed; no sound one comes near."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    # its exit code; minus the number of the signal that killed it
    said: str
    # standard output and error together
    at: float
    # monotonic time, seconds


def begin(work: Callable[[], None]) -> tuple[int, int]:
    """Forks a child that does the work, and returns its process id and the end of a pipe with what it prints.

    It ends with 0 after the work, with the code of a SystemExit, and with 70 and a traceback after any other exception.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 70
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        torch.set_num_threads(1)  # threads of the parent are not here
        work()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, reader: int) -> Ended:
    """Waits for a child, kills it if it hangs, and returns how it ended."""
    os.set_blocking(reader, False)
    said, deadline = b"", time.monotonic() + LONGEST
    while True:
        said += _drained(reader)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    at = time.monotonic()
    said += _drained(reader)
    os.close(reader)
    return Ended(os.waitstatus_to_exitcode(status), said.decode("utf-8", "replace"), at)


def forked(work: Callable[[], None]) -> Ended:
    """Does the work in a child and returns how it ended."""
    return wait(*begin(work))


def command(*arguments: object) -> Callable[[], None]:
    """Returns the work of `attune ARGUMENTS`."""

    def work() -> None:
        from attune.cli.main import main

        sys.argv = ["attune", *map(str, arguments)]
        main()

    return work


def _drained(reader: int) -> bytes:
    found = b""
    try:
        while piece := os.read(reader, 1 << 16):
            found += piece
    except BlockingIOError:
        pass
    return found
