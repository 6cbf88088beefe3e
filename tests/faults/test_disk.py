"""Fault 3, a disk that is full or read-only: one line, the last checkpoint untouched, nothing half-written, and the run goes on once there is room."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attune.training.checkpoint import latest_checkpoint
from tests.conftest import Tally
from tests.faults.forked import command, forked

POINTS: dict[str, tuple[str, int]] = {
    "provenance": (r"/\.provenance\.json", 1),
    "the recipe": (r"/\.recipe\.yaml", 1),
    "the account of the data": (r"/\.data\.json", 1),
    "the doctor's findings": (r"/\.doctor\.json", 1),
    "the reference's cache": (r"/cache/", 1),
    "the first metrics": (r"/metrics\.jsonl", 1),
    "later metrics": (r"/metrics\.jsonl", 7),
    "a first checkpoint": (r"/\.update-000003", 1),
    "a later checkpoint": (r"/\.update-000006", 1),
    "the state of a checkpoint": (r"/\.update-000006.*/state\.json", 1),
    "the best weights": (r"/\.best-0*[3-6]", 1),
    "the end of a checkpoint": (r"/\.update-000006.*=>", 1),
    "results": (r"/\.evals\.json", 1),
    "the adapter": (r"/\.?adapter", 1),
    "the model": (r"/\.?model", 1),
    "the model's tokenizer": (r"/\.?model.*/tokenizer_config", 1),
    "the outcome": (r"/\.outcome\.json", 1),
    "the report": (r"/\.report\.html", 1),
}
"""What is about to be touched when the disk spoils: a path, and the how-manieth time that it is; `=>` is a renaming."""

SHORT = {("full", "the model"), ("read-only", "a later checkpoint")}


def full(place: Path) -> None:
    """No file takes another byte; folders and empty files can still be made, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def nearly_full(place: Path) -> None:
    """Small files still fit, and the beginning of large ones."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def read_only(place: Path) -> None:
    """Nothing below the run's directory can be written, made or taken away, not even by a superuser."""
    for path in (place, *place.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    data[0] &= ~0b10  # CAP_DAC_OVERRIDE: permissions hold for the superuser too
    assert libc.capset(header, data) == 0


SPOILS: dict[str, Callable[[Path], None]] = {"full": full, "nearly full": nearly_full, "read-only": read_only}


def digest(folder: Path | None) -> str | None:
    """The content of a checkpoint; None: there is none."""
    if folder is None:
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def spoiling(place: Path, point: str, spoil: Callable[[Path], None], notes: Path, work: Callable[[], None]) -> Callable[[], None]:
    """The same work, on a disk that spoils at the point; what was there then is noted."""
    pattern, wanted = POINTS[point]
    seen: list[str] = []
    asleep: list[bool] = []

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir", "os.rename") or asleep or (event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        said = str(given[0]) + (f"=>{given[1]}" if event == "os.rename" else "")
        if said.startswith(str(place)) and re.search(pattern, said.replace(str(place), "", 1)):
            seen.append(said)
            if len(seen) == wanted:
                asleep.append(True)
                newest = latest_checkpoint(place / "checkpoints")
                notes.write_text(json.dumps([str(newest) if newest else None, digest(newest), time.monotonic()]))
                spoil(place)

    def spoilt() -> None:
        sys.addaudithook(hear)
        work()

    return spoilt


def broken(place: Path) -> list[str]:
    """What is half-written: files put aside, JSON that ends too early, weights that cannot be read, a model without its tokenizer."""
    from safetensors import SafetensorError, safe_open

    found = [str(path.relative_to(place)) for path in place.rglob(".*")]
    for path in place.rglob("*.json"):
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            found.append(str(path.relative_to(place)))
    for path in place.rglob("*.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except SafetensorError:
            found.append(str(path.relative_to(place)))
    for name in ("model", "adapter"):
        if (place / name).is_dir() and not {"tokenizer.json", "tokenizer_config.json"} <= {path.name for path in (place / name).iterdir()}:
            found.append(name)
    return found


def weights(place: Path) -> str:
    return hashlib.sha256((place / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def arguments(places: dict[str, str]) -> list[str]:
    data = [f"model.path={places['model']}", f"data.train={places['preferences']}", "reference.cache=disk", "model.adapter={rank: 2}"]
    loop = ["train.updates=6", "train.groups_per_update=4", "train.save_every=3", "train.eval_every=3", "train.patience=9", "optim.lr=1e-3"]
    return ["run", "dpo", *data, *loop, "--quiet", "--run-dir"]


@pytest.fixture(scope="module")
def undisturbed(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("undisturbed") / "run"
    ended = forked(command(*arguments, place))
    assert ended.code == 0, ended.said
    return weights(place)


LARGE = ("the reference's cache", "a later checkpoint", "the adapter", "the model")
CASES = [(spoil, point) for spoil in SPOILS for point in POINTS if spoil != "nearly full" or point in LARGE]


@pytest.mark.parametrize(("spoil", "point"), [pytest.param(*case, marks=() if case in SHORT else pytest.mark.slow) for case in CASES])
def test_it_ends_cleanly_and_goes_on_later(spoil: str, point: str, arguments: list[str], undisturbed: str, tmp_path: Path, tally: Tally, full: bool) -> None:
    place, notes = tmp_path / "run", tmp_path / "notes"
    ended = forked(spoiling(place, point, SPOILS[spoil], notes, command(*arguments, place)))
    newest, content, at = json.loads(notes.read_text("utf-8"))
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    left = broken(place)
    fits = spoil == "nearly full" and ended.code == 0  # nothing large was still to be written
    wrong = [
        *([] if fits or (ended.code == 2 and ended.said.startswith("attune: ") and ended.said.count("\n") == 1) else [f"code {ended.code}: {ended.said}"]),
        *([] if fits or str(place) in ended.said else [f"no path in {ended.said!r}"]),
        *([] if newest is None or digest(Path(newest)) == content else ["the last checkpoint was touched"]),
        # what cannot be taken away because nothing can be is not counted, as long as it bears no name that anybody reads
        *(f"half-written: {name}" for name in left if spoil != "read-only" or not name.rpartition("/")[2].startswith(".")),
        *(["it took five seconds"] if full and ended.at - at > 5 else []),
    ]
    again = forked(command(*arguments, place, "--resume"))
    wrong += [] if again.code == 0 and weights(place) == undisturbed and not broken(place) else [f"resumed: {again.code} {again.said} {broken(place)}"]
    tally(3, f"a disk that is {spoil}, by the file about to be written", 1, bool(wrong), (ended.at - at, "s at most from the fault to the end"))
    assert not wrong
