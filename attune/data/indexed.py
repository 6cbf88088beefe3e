"""Random access to the records of files in attune's own format, however many there are, at constant memory.

A scan for line ends writes where each record starts into an index file, 8 bytes a record; a record is then two reads: its place from the
index, its bytes from the data. Both are plain reads and not mapped pages, so neither the data nor the index count as memory of the process.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import tempfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from threading import Lock

import numpy as np

from attune.core.errors import FormatError, RecordError
from attune.core.record import Group
from attune.data import discovery
from attune.data.account import Finding, finding
from attune.data.files import Row, decoded, find
from attune.data.formats import attune_native
from attune.data.read import parsed
from attune.runs.provenance import sampled_hash

_PIECE = 1 << 20  # bytes scanned at a time
_FIRST = 32  # records by which the format is confirmed
_OPEN = 64  # files kept open at once
_NUMBER = np.dtype("<i8")
_MEND = "run `attune data prepare FILES --out NAME.jsonl` once and name what it wrote: it also joins equal prompts, which a stream cannot do"


class Indexed:
    """The records of files in attune's own format, by number: file after file, line after line.

    Args:
        path: what `attune.data.files.find` takes; every file is plain JSONL that `attune data prepare` (or `attune.data.write`) wrote.
        folder: where the index files are kept for the next time, by a hash of what they index; None: they last as long as this object.
        id_prefix: put before every group's id.

    Raises:
        FormatError: nothing there, or a file that is not attune's own JSONL.
    """

    def __init__(self, path: str | Path, *, folder: Path | None = None, id_prefix: str = "") -> None:
        self.files, self._id_prefix = find(path), id_prefix
        self._aside = None if folder is not None else tempfile.TemporaryDirectory(prefix="attune-index-")
        place = Path(self._aside.name) if self._aside is not None else Path(str(folder))
        for file in self.files:
            if not file.lower().endswith((".jsonl", ".ndjson")):
                raise FormatError("streaming reads attune's own JSONL", file=file, allowed="an uncompressed .jsonl file", mend=_MEND)
        self._indices = [_index(file, place) for file in self.files]
        self._ends = list(accumulate(os.path.getsize(index) // _NUMBER.itemsize - 1 for index in self._indices))
        self._handles = _Handles()
        if not self:
            raise FormatError("there is no record", file=", ".join(self.files), allowed="at least one")
        for file, first, end in zip(self.files, [0, *self._ends], self._ends, strict=False):
            if end > first:
                _confirm(file, [self._row(number) for number in range(first, min(end, first + _FIRST))])

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, number: int) -> Group | Finding:
        """Returns the group of record `number` (0-based), or what is wrong with the record."""
        row = self._row(number)
        groups, error = parsed(attune_native.FORMAT, row)
        if error is not None:
            return finding(error, file=row.file, line=row.line, id=row.id)
        (group,) = groups
        return replace(group, id=self._id_prefix + group.id) if self._id_prefix else group

    def _row(self, number: int) -> Row:
        which = bisect_right(self._ends, number)
        line = number - (self._ends[which - 1] if which else 0)
        start, end = np.frombuffer(self._handles.read(self._indices[which], line * _NUMBER.itemsize, 2 * _NUMBER.itemsize), _NUMBER).tolist()
        raw = self._handles.read(self.files[which], start, end - start)
        raw = raw.removeprefix(codecs.BOM_UTF8) if line == 0 else raw
        if not raw.strip():
            return Row(file=self.files[which], line=line + 1, record=None, error=RecordError("the line is blank"))
        return decoded(raw, self.files[which], line + 1)


class Together:
    """The first records of several sources as one: those of the first, then those of the second ...

    Args:
        parts: (records, how many of them count).
    """

    def __init__(self, parts: Sequence[tuple[Indexed, int]]) -> None:
        self._parts = [part for part, _ in parts]
        self._ends = list(accumulate(num for _, num in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, number: int) -> Group | Finding:
        """Returns the group of record `number` (0-based), or what is wrong with the record."""
        which = bisect_right(self._ends, number)
        return self._parts[which].read(number - (self._ends[which - 1] if which else 0))


class _Handles:
    """Open files, the latest used ones; safe for several threads."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def read(self, path: str, start: int, length: int) -> bytes:
        """Returns so many bytes of a file; raises FormatError where it does not hold them (any more)."""
        try:
            with self._lock:
                if path not in self._open:
                    self._open[path] = os.open(path, os.O_RDONLY)
                    if len(self._open) > _OPEN:
                        os.close(self._open.popitem(last=False)[1])
                self._open.move_to_end(path)
                said = os.pread(self._open[path], length, start)
        except OSError as error:
            raise FormatError(f"the file cannot be read: {error.strerror or error}", file=path) from None
        if len(said) != length:
            raise FormatError("the file has become shorter since it was indexed", file=path, value=start + len(said), allowed=f"{start + length} bytes")
        return said

    def __del__(self) -> None:
        for handle in self._open.values():
            os.close(handle)


def _index(file: str, folder: Path) -> str:
    """Returns the path of a file's index, made unless it is there: where each line starts, and where the last one ends."""
    name = hashlib.sha256(f"{os.path.abspath(file)}|{os.stat(file).st_mtime_ns}|{sampled_hash(file)}".encode()).hexdigest()[:32]
    place = folder / f"{name}.index"
    if place.is_file():
        return str(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".index-") as aside:  # ranks of several machines may do this at once: each writes the same
            _scan(file, Path(aside) / place.name)
            os.replace(Path(aside) / place.name, place)
    except OSError as error:
        raise FormatError(f"the index cannot be written: {error.strerror or error}", file=str(place)) from None
    return str(place)


def _scan(file: str, out: Path) -> None:
    """Writes where each line of a file starts, then where the last line that is not blank ends."""
    position = last = end = 0
    with open(file, "rb") as stream, open(out, "wb") as index:
        index.write(np.zeros(1, _NUMBER).tobytes())
        while piece := stream.read(_PIECE):
            starts = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")) + (position + 1)
            index.write(starts.astype(_NUMBER).tobytes())
            last = int(starts[-1]) if len(starts) else last
            said = len(piece.rstrip())
            end = position + said if said else end
            position += len(piece)
        if last != position:
            index.write(np.array([position], _NUMBER).tobytes())
    places = np.memmap(out, _NUMBER, "r")
    kept = int(np.searchsorted(places, end)) + 1
    del places
    os.truncate(out, kept * _NUMBER.itemsize)


def _confirm(file: str, first: Sequence[Row]) -> None:
    records = [row.record for row in first if row.record is not None]
    if not records:
        raise FormatError("no record can be decoded", file=file, value=str(first[0].error), mend=_MEND)
    try:
        discovery.confirm(attune_native.FORMAT, records, file=file)
    except FormatError as error:
        error.mend = _MEND
        raise
