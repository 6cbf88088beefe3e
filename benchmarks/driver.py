"""Processes that are measured in turns: one worker a configuration, all of a shape alive at once, one computing at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import setup_trl
from benchmarks.material import BETA, LR, Shape, to_json
from tools import setup_environment as setup

PYTHONS = {"trl": setup_trl.PYTHON, "attune": setup.ROOT / ".venv" / "bin" / "python", "floor": setup.ROOT / ".venv" / "bin" / "python"}
PATIENCE = 1800.0
"""Seconds after which a worker that says nothing has failed."""

_MEMORY = ("can't allocate memory", "bad_alloc", "MemoryError", "out of memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One configuration of the table."""

    key: str
    # names it in results.json
    side: str
    # whose worker runs it: trl, attune, floor
    label: str
    precision: str
    # as the table calls it
    options: Mapping[str, Any] = field(default_factory=dict)
    # what its worker is told beyond the shape
    turns: int | None = None
    # it takes part in the first so many turns; None: in all


@dataclass(slots=True)
class Measured:
    """What a row came to."""

    row: Row
    seconds: list[list[float]] = field(default_factory=list)
    # [turn][timed update]
    cpu: list[list[float]] = field(default_factory=list)
    # the same in seconds of all processors together; equal on a machine that others use too
    losses: list[float] = field(default_factory=list)
    # of every update, those that are not timed too
    peaks: list[int] = field(default_factory=list)
    # bytes, highest resident memory of the whole process in each turn
    built: int = 0
    # bytes resident when everything is built and nothing has run
    tokens: dict[str, int] = field(default_factory=dict)
    failed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        said = {name: getattr(self, name) for name in ("seconds", "cpu", "losses", "peaks", "built", "tokens", "failed")}
        return {"key": self.row.key, "side": self.row.side, "label": self.row.label, "precision": self.row.precision, **said}


class Failed(Exception):
    """A worker has ended or fallen silent; says why."""


class Worker:
    """One process, and the conversation with it."""

    def __init__(self, row: Row, spec: Mapping[str, Any], *, scratch: Path) -> None:
        self.errors = scratch / f"{row.key}.stderr"
        threads = str(spec["threads"])
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "hf"), "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [str(PYTHONS[row.side]), "-m", f"benchmarks.worker_{row.side}", json.dumps(dict(spec))],
                cwd=setup.ROOT,
                env=os.environ | quiet | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def hear(self) -> dict[str, Any]:
        """Returns the worker's next line; raises Failed where none comes."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise Failed(f"no word for {PATIENCE:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            said = self.errors.read_text()
            if code == -9 or any(sign in said for sign in _MEMORY):
                raise Failed("out of memory")
            raise Failed(f"ended with {code}: {(said.strip().splitlines() or ['no word'])[-1]}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def turn(self, warm: int, timed: int) -> dict[str, Any]:
        """Lets the worker run so many updates; returns what it says about them."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"warm": warm, "timed": timed}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `hear` finds out why
        return self.hear()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def specification(shape: Shape, row: Row, folder: Path, *, updates: int, threads: int) -> dict[str, Any]:
    """Returns what a row's worker is told."""
    return {
        "name": row.key,
        "kind": shape.kind,
        "precision": row.precision,
        "model": str(folder / "model"),
        "adapter": str(folder / "adapter") if shape.kind == "lora" else None,
        "groups": str(folder / "groups.jsonl"),
        "pairs": str(folder / row.options.get("pairs_file", "pairs.jsonl")),
        "tokens": str(folder / "tokens.json"),
        "scratch": str(folder),
        "eos": shape.vocabulary - 1,
        "groups_per_update": shape.groups_per_update,
        "pairs_per_update": shape.groups_per_update * shape.pairs_per_group,
        "updates": updates,
        "threads": threads,
        "lr": LR,
        "beta": BETA,
        **row.options,
    }


def prepare(shape: Shape, folder: Path, *, updates: int) -> None:
    """Makes model and data in a process of its own, so that the driver stays small."""
    code = [str(PYTHONS["attune"]), "-m", "benchmarks.material", to_json(shape), str(folder), str(updates)]
    done = subprocess.run(code, cwd=setup.ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise Failed(f"model and data could not be made: {done.stderr.strip().splitlines()[-1]}")


def measure(
    shape: Shape, rows: Sequence[Row], folder: Path, *, turns: int, warm: int, timed: int, threads: int, progress: Callable[[str], None]
) -> list[Measured]:
    """Measures all rows of a shape in interleaved turns; a row that fails is out, the others go on.

    Args:
        shape: model and data.
        rows: configurations.
        folder: an empty one.
        turns: how often each row comes.
        warm, timed: updates of a turn that are not timed, and that are.
        threads: of every worker.
        progress: takes a line.
    """
    updates = turns * (warm + timed)
    prepare(shape, folder, updates=updates)
    found = [Measured(row) for row in rows]
    workers: dict[str, Worker] = {}
    try:
        for one in found:
            started = time.perf_counter()
            workers[one.row.key] = Worker(one.row, specification(shape, one.row, folder, updates=updates, threads=threads), scratch=folder)
            _heard(one, workers)
            progress(f"{shape.name}: {one.row.label} " + (one.failed or f"ready after {time.perf_counter() - started:.0f} s"))
        for turn in range(turns):
            for place in range(len(found)):
                one = found[(place + turn) % len(found)]  # nobody always comes behind the same neighbour
                if one.failed is None and turn < (one.row.turns or turns):
                    _heard(one, workers, warm, timed)
                    said = one.failed or f"{min(one.seconds[-1]):.2f} s an update, {one.peaks[-1] / 2**30:.2f} GiB"
                    progress(f"{shape.name}: turn {turn + 1}/{turns}, {one.row.label}: {said}")
                if one.row.turns == turn + 1:
                    workers[one.row.key].end()
    finally:
        for worker in workers.values():
            worker.end()
    return found


def _heard(one: Measured, workers: Mapping[str, Worker], warm: int = 0, timed: int = 0) -> None:
    """Notes what the worker says: that it is ready, or how a turn went."""
    worker = workers[one.row.key]
    try:
        said = worker.turn(warm, timed) if timed else worker.hear()
    except Failed as error:
        one.failed = str(error)
        worker.end()
        return
    if said["event"] == "ready":
        one.built, one.tokens = said["resident"], {name: value for name, value in said.items() if name not in ("event", "resident")}
    else:
        one.seconds.append(said["seconds"])
        one.cpu.append(said["cpu"])
        one.losses += said["losses"]
        one.peaks.append(said["peak"])
