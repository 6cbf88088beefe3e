"""Log-probabilities that are computed once: by the content of a row, in memory or in shards on disk that several processes may fill together.

Letters: N rows, T steps, R rows of a shard, M their supervised tokens.

A folder holds shards 00000001.safetensors, 00000002.safetensors ... A shard is written aside and linked under the next number; where another
process took that number first, its rows are read, what they hold already is left out, and the number after it is tried. So there is no lock that a
crash could leave behind, no shard changes once it has its name, and every process sees the same first value of a row. What a crash or a bad disk
left unreadable is renamed to *.torn, with a note, and computed again.
"""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attune.core.errors import RunError
from attune.runs.directory import sync

MIN_ROWS, MAX_ROWS = 1024, 65536
"""Rows after which a shard is written: at least, at most; in between a sixteenth of all rows, so that shards stay few and a crash loses little."""
_DAY, _PAUSE = 24 * 3600, 0.01  # seconds
_KEY = 32  # bytes of a row's key
_PARTS = ("keys", "starts", "checks", "logp")


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows that were written together; on disk it is mapped, so that only what is read takes memory."""

    keys: Tensor
    # [R,32] uint8, content hash of each row
    starts: Tensor
    # [R+1] long, where each row's numbers begin among the M
    checks: Tensor
    # [R] long, crc32 of key and numbers
    logp: Tensor
    # [M] nats
    path: Path | None = None

    def row(self, number: int) -> Tensor | None:
        """Returns a row's numbers, or None where they are not what was written."""
        logp = self.logp[self.starts[number] : self.starts[number + 1]]
        return logp.clone() if _check(bytes(self.keys[number].numpy()), logp) == self.checks[number] else None

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "starts": self.starts, "checks": self.checks, "logp": self.logp}


def build(rows: Mapping[str, Tensor]) -> Shard:
    """Returns a shard of rows by key (64 hexadecimal digits)."""
    keys = [bytes.fromhex(key) for key in rows]
    lengths = torch.tensor([0, *(len(logp) for logp in rows.values())])
    checks = torch.tensor([_check(key, logp) for key, logp in zip(keys, rows.values(), strict=True)], dtype=torch.long)
    joined = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, _KEY)
    return Shard(joined, lengths.cumsum(0), checks, torch.cat(list(rows.values())))


def _check(key: bytes, logp: Tensor) -> int:
    return zlib.crc32(logp.contiguous().view(torch.uint8).numpy().data, zlib.crc32(key))


class Index:
    """Which shard holds a row, in 16 bytes a row: the first 8 of its key, sorted, and its place."""

    def __init__(self) -> None:
        self._prefixes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._places: NDArray[np.uint64] = np.empty(0, np.uint64)  # shard << 32 | row

    def __len__(self) -> int:
        return len(self._prefixes)

    def add(self, number: int, keys_RK: NDArray[np.uint8]) -> None:
        """Adds the rows of a shard; of rows added twice, the first is found."""
        prefixes = np.ascontiguousarray(keys_RK[:, :8]).view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(prefixes, kind="stable")
        where = np.searchsorted(self._prefixes, prefixes[order], side="right")
        self._prefixes = np.insert(self._prefixes, where, prefixes[order])
        self._places = np.insert(self._places, where, (np.uint64(number) << np.uint64(32)) | order.astype(np.uint64))

    def remove(self, number: int) -> None:
        """Forgets the rows of a shard."""
        kept = self._places >> np.uint64(32) != number
        self._prefixes, self._places = self._prefixes[kept], self._places[kept]

    def candidates(self, key: bytes) -> Iterator[tuple[int, int]]:
        """Yields (shard, row) of all rows whose key begins as this one does, the first added first: one, but for chance."""
        prefix = np.uint64(int.from_bytes(key[:8], "big"))
        first, last = np.searchsorted(self._prefixes, prefix, side="left"), np.searchsorted(self._prefixes, prefix, side="right")
        for place in self._places[first:last].tolist():
            yield place >> 32, place & 0xFFFFFFFF


class Store:
    """Rows by content key.

    Args:
        folder: where shards are kept; None: in memory.
        identity: whose numbers they are; a shard of another one is not read.
        say: told of shards that could not be used.
    """

    def __init__(self, folder: Path | None, identity: str, say: Callable[[str], None]) -> None:
        self._folder, self._identity, self._say = folder, identity, say
        self._shards: dict[int, Shard] = {}
        self._index = Index()
        self._new: dict[str, Tensor] = {}
        self._refused: set[Path] = set()
        if folder is not None:
            self._sweep(folder)
            self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._new or self._find(bytes.fromhex(key)) is not None

    def get(self, key: str) -> Tensor | None:
        """Returns a row's numbers, or None where there are none, or none that can be trusted: its shard is then set aside."""
        if key in self._new:
            return self._new[key]
        place = self._find(bytes.fromhex(key))
        if place is None:
            return None
        found = self._shards[place[0]].row(place[1])
        if found is None:
            self._set_aside(self._shards[place[0]].path, "a row's numbers are not those that were written")
            self._index.remove(place[0])
            del self._shards[place[0]]
        return found

    def put(self, key: str, logp: Tensor) -> None:
        """Keeps a row that is not there yet."""
        self._new[key] = logp
        if len(self._new) >= min(max(MIN_ROWS, len(self._index) // 16), MAX_ROWS):
            self.flush()

    def flush(self) -> None:
        """Makes a shard of what is new.

        Raises:
            RunError: it cannot be written; no part of it is left.
        """
        if self._folder is None and self._new:
            self._take(len(self._shards), build(self._new))
            self._new = {}
        while self._folder is not None and self._new:
            number = 1 + max(self.refresh(), default=0)
            self._new = {key: logp for key, logp in self._new.items() if self._find(bytes.fromhex(key)) is None}
            if self._new and self._publish(self._folder, number):
                self._new = {}
                self.refresh()
            elif self._new:
                time.sleep(_PAUSE)  # a network's file system may take a while to show what took the number

    def refresh(self) -> list[int]:
        """Reads what other processes have written since; returns the numbers of all shards, those set aside too."""
        if self._folder is None or not self._folder.is_dir():
            return []
        names = sorted(os.listdir(self._folder))
        for name in names:
            stem, _, kind = name.partition(".")
            path = self._folder / name
            if kind == "safetensors" and stem.isdecimal() and int(stem) not in self._shards and path not in self._refused:
                shard = self._open(path)
                if shard is not None:
                    self._take(int(stem), shard)
        return [int(stem) for stem in (name.partition(".")[0] for name in names) if stem.isdecimal()]

    def _take(self, number: int, shard: Shard) -> None:
        self._shards[number] = shard
        self._index.add(number, shard.keys.numpy())

    def _find(self, key: bytes) -> tuple[int, int] | None:
        for number, row in self._index.candidates(key):
            if bytes(self._shards[number].keys[row].numpy()) == key:
                return number, row
        return None

    def _open(self, path: Path) -> Shard | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                said = (file.metadata() or {}).get("identity")
                parts = {name: file.get_tensor(name) for name in _PARTS if name in set(file.keys())}
            wrong = _wrong(parts) if said == self._identity else "it holds the numbers of another model"
        except FileNotFoundError:  # another process has just set it aside
            return None
        except (SafetensorError, OSError) as error:
            wrong = str(error)
        if wrong:
            self._set_aside(path, wrong)
            return None
        return Shard(parts["keys"], parts["starts"], parts["checks"], parts["logp"], path)

    def _set_aside(self, path: Path | None, why: str) -> None:
        assert path is not None, "memory does not change"
        self._refused.add(path)
        self._say(f"{path}: a shard of cached log-probabilities is not used, and its rows are computed again: {why}")
        try:
            os.replace(path, path.with_suffix(".torn"))
        except OSError:
            return  # another process was quicker, or the folder is only to be read

    def _publish(self, folder: Path, number: int) -> bool:
        """Writes the new rows under a number; returns False where another process has taken it."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        aside = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(build(self._new).tensors(), aside, metadata={"identity": self._identity})
            sync(aside)
            if not _linked(aside, folder / f"{number:08d}.safetensors"):
                return False
            sync(folder)
        except (OSError, SafetensorError) as error:
            why = getattr(error, "strerror", None) or error
            raise RunError(f"cannot write cached log-probabilities: {why}", file=str(folder), mend="reference.cache=memory writes none") from error
        finally:
            with suppress(OSError):  # it is not there, or cannot be deleted; nobody reads it
                aside.unlink()
        return True

    @staticmethod
    def _sweep(folder: Path) -> None:
        """Deletes what killed processes left half-written; those that still write are younger."""
        for path in folder.glob(".*.tmp"):
            try:
                if path.stat().st_mtime < time.time() - _DAY:
                    path.unlink()
            except FileNotFoundError:
                continue


def _wrong(parts: Mapping[str, Tensor]) -> str | None:
    """Returns what is wrong with a shard's tensors; whether the numbers are right is seen when they are read."""
    if parts.keys() != set(_PARTS):
        return "its tensors are not those of a shard"
    keys, starts, checks, logp = (parts[name] for name in _PARTS)
    rows = checks.numel()
    types = (keys.dtype, starts.dtype, checks.dtype) == (torch.uint8, torch.long, torch.long) and logp.dtype in (torch.float32, torch.float64)
    shapes = keys.shape == (rows, _KEY) and starts.shape == (rows + 1,) and logp.ndim == 1 and checks.ndim == 1
    if not (types and shapes) or not rows:
        return "its tensors are not those of a shard"
    ends = int(starts[0]) == 0 and int(starts[-1]) == len(logp) and bool((starts.diff() >= 0).all())
    return None if ends else "its rows do not lie in it"


def _linked(source: Path, target: Path) -> bool:
    """Gives a file a second name, whole and at once; returns False where the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True
