"""Opens feedback files and yields their rows with line numbers; what cannot be decoded becomes a row that says why."""

from __future__ import annotations

import codecs
import glob
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from attune.core.errors import AttuneError, FormatError, RecordError
from attune.data import codec, json_array

SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz", ".parquet")
"""What the name of a file of feedback ends in."""

HUB = "hub:"
"""What stands before the name of a data set on a hub: hub:org/name, hub:org/name@split, hub:org/name:config@split."""

_BOM = codecs.BOM_UTF8
_HEAD = 64  # bytes looked at to tell what a file is
_NAMES = ("id", "prompt_id", "uuid", "idx", "key", "session_id", "question_id")  # fields in which sources name their records
_ID = 80  # characters of such a name that are kept
_BATCH = 256  # Parquet rows decoded at a time
_DEPTH = 200  # levels of nesting that a record may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record as it stands in its file, or why it cannot be decoded."""

    file: str
    line: int
    # 1-based; the row number in Parquet and on a hub
    record: dict[str, Any] | None
    # None: it could not be decoded
    error: RecordError | None = None
    # why not; None: it could
    id: str | None = None
    # the source's own name of the record; None: it has none, or it could not be read


def find(path: str | Path) -> tuple[str, ...]:
    """Returns the files that `path` stands for: itself, a folder's files of feedback (sorted, deep), or what a pattern matches.

    Raises:
        FormatError: nothing is there, or the file's suffix is none of SUFFIXES.
    """
    name = str(path)
    if name.startswith(HUB):
        return (name,)
    place = Path(name)
    if place.is_dir():
        inside = sorted(p for p in place.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(place).parts))
        found = [str(p) for p in inside if p.name.lower().endswith(SUFFIXES)]
        if not found:
            raise FormatError("the folder holds no file of feedback", file=name, allowed="files that end in " + ", ".join(SUFFIXES))
        return tuple(found)
    found = [name] if place.is_file() else sorted(glob.glob(name, recursive=True))
    if not found:
        raise FormatError("there is no such file, folder or match", file=name)
    for one in found:
        if not one.lower().endswith(SUFFIXES):
            raise FormatError("the name does not say what the file is", file=one, allowed="files that end in " + ", ".join(SUFFIXES))
    return tuple(found)


def rows(file: str) -> Iterator[Row]:
    """Yields the rows of one file in order, holding little of it in memory.

    Raises:
        FormatError: the file as a whole cannot be read on (broken compression, a broken array, not Parquet, UTF-16).
    """
    if file.startswith(HUB):
        yield from _hub(file)
        return
    if file.lower().endswith(".parquet"):
        yield from _parquet(file)
        return
    line = 0
    try:
        with _opened(file) as stream:
            head = stream.read(_HEAD)
            stream.seek(0)
            if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise FormatError("the file is UTF-16", file=file, allowed="UTF-8")
            array = file.lower().removesuffix(".gz").endswith(".json") and head.removeprefix(_BOM).lstrip().startswith(b"[")
            for row in _array(stream, file) if array else _lines(stream, file):
                line = row.line
                yield row
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"the compressed file is damaged: {error}", file=file, line=line + 1) from None
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror or error}", file=file) from None


def _opened(file: str) -> IO[bytes]:
    if file.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(file))
    return open(file, "rb")


def _lines(stream: IO[bytes], file: str) -> Iterator[Row]:
    for number, raw in enumerate(stream, start=1):
        raw = raw.removeprefix(_BOM) if number == 1 else raw
        if raw.strip():
            yield decoded(raw, file, number)


def decoded(raw: bytes, file: str, line: int) -> Row:
    """Returns the record that a line of JSONL holds, or why it holds none.

    Args:
        raw: the line's bytes, without a byte order mark; a line end at the end does not matter.
        file: its file's name.
        line: its number there, 1-based.
    """
    try:
        value = codec.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        found = raw[error.start : error.start + 8]
        return Row(file=file, line=line, record=None, error=RecordError(f"byte {error.start + 1} of the line is not UTF-8", value=found, allowed="UTF-8"))
    except ValueError as error:
        shown, allowed = raw[:200].decode("utf-8", "replace"), "one JSON object a line, or one array in a .json file"
        return Row(file=file, line=line, record=None, error=RecordError(f"the line is not JSON: {error}", value=shown, allowed=allowed))
    return _row(value, file, line, raw)


def _array(stream: IO[bytes], file: str) -> Iterator[Row]:
    for element in json_array.elements(stream, file):
        if element.twice is None:
            yield _row(element.value, file, element.line, element.text.encode("utf-8"))
        else:
            yield Row(file=file, line=element.line, record=None, error=RecordError("the key stands twice in one object", field=element.twice))


def _row(value: Any, file: str, line: int, raw: bytes) -> Row:
    """Checks what every format relies on: a record is an object, its nesting is shallow, its text is text."""
    error = None
    if not isinstance(value, dict):
        error = RecordError("a record is an object", value=value, allowed="a JSON object: {...}")
    elif raw.count(b"[") + raw.count(b"{") > _DEPTH and codec.depth(value) > _DEPTH:
        error = RecordError("the record is nested too deeply", allowed=f"{_DEPTH} levels")
    elif codec.may_hold_surrogate(raw) and (where := codec.find_surrogate(value)):
        error = RecordError("text holds a lone surrogate, which is no character", field=where)
    return Row(file=file, line=line, record=None if error else value, error=error, id=_id(value))


def _parquet(file: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            line = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                for index in range(batch.num_rows):
                    line += 1
                    try:
                        record = batch.slice(index, 1).to_pylist()[0]
                    except UnicodeDecodeError as error:
                        yield Row(file=file, line=line, record=None, error=RecordError("text is not UTF-8", value=error.object[:8], allowed="UTF-8"))
                    else:
                        yield _typed(record, file, line)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"the Parquet file cannot be read: {error}", file=file) from None


def _hub(spec: str) -> Iterator[Row]:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise AttuneError("reading from a hub needs the package 'datasets'", file=spec, mend="pip install 'attune[hub]'") from None
    name, _, split = spec.removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    try:
        data = load_dataset(name, config or None, split=split or "train", streaming=True)
        for line, record in enumerate(data.decode(False), start=1):  # images stay as they are stored
            yield _typed(dict(record), spec, line)
    except (DatasetsError, OSError, ValueError) as error:  # ValueError: no such configuration or split
        raise FormatError(f"the data set cannot be read: {error}", file=spec) from None


def _typed(record: dict[str, Any], file: str, line: int) -> Row:
    """Turns a row with types of its own (dates, decimals, decoded images) into plain data, or says which field cannot be."""
    try:
        return Row(file=file, line=line, record=codec.plain(record), id=_id(record))
    except RecordError as error:
        return Row(file=file, line=line, record=None, error=error, id=_id(record))


def _id(value: Any) -> str | None:
    """Returns what the source calls a record, for messages about it."""
    if not isinstance(value, dict):
        return None
    found = next((value[name] for name in _NAMES if isinstance(value.get(name), (str, int)) and value[name] != ""), None)
    return None if found is None else str(found)[:_ID]
