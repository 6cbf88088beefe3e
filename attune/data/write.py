"""Writes groups to a file: all of them, or no file."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from attune.core.errors import FormatError, RecordError
from attune.core.record import Group
from attune.data import codec, discovery
from attune.data.format import Format
from attune.data.formats import attune_native

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
"""What the name of a written file ends in; Parquet is for attune's own format."""

_ROW_GROUP = 1024  # groups held in memory while Parquet is written


def write(groups: Iterable[Group], path: str | Path, *, format: str = "attune_native") -> int:
    """Writes groups, one record a line (or row), through a file aside that takes the name only when it is complete.

    Args:
        groups: read once, held in memory a few at a time.
        path: where to; the suffix (SUFFIXES) says how. Folders on the way are made.
        format: a format that can be written.

    Returns:
        The number of records written.

    Raises:
        FormatError: a suffix or format that cannot be written, or a place that cannot be written to.
        RecordError: a group that the format cannot say, with its source; nothing is written then.
    """
    place, chosen = Path(path), discovery.named(format)
    if not place.name.lower().endswith(SUFFIXES):
        raise FormatError("the name does not say how to write", file=str(path), allowed="names that end in " + ", ".join(SUFFIXES))
    if chosen.write is None:
        writable = [name for name, one in discovery.formats().items() if one.write]
        raise FormatError(f"the format {format!r} can be read but not written", file=str(path), allowed=", ".join(writable))
    if place.suffix.lower() == ".parquet":
        if chosen is not attune_native.FORMAT:
            raise FormatError(
                "Parquet is written in attune's own format only", file=str(path), value=format, allowed="attune_native, or a name that ends in .jsonl"
            )
        with aside(place) as temporary:
            return _parquet(groups, temporary)
    with aside(place) as temporary, open(temporary, "wb") as raw:
        if place.suffix.lower() != ".gz":
            return _lines(groups, chosen, raw.write)
        # no name and no time of writing inside: equal groups make equal files
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            return _lines(groups, chosen, packed.write)


@contextmanager
def aside(place: Path) -> Iterator[Path]:
    """Yields a path beside `place` to write to; it takes the place when the block ends, and is removed when it fails.

    Raises:
        FormatError: the place cannot be written to.
    """
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what the system says while something is written to `place` (no room, no right) into a FormatError that names it."""
    try:
        yield
    except OSError as error:
        raise FormatError(f"the file cannot be written: {error.strerror or error}", file=str(place)) from None


def records(groups: Iterable[Group], format: Format) -> Iterator[Mapping[str, Any]]:
    """Yields what `format` makes of each group. Raises RecordError with the group's source where it cannot."""
    assert format.write is not None, f"{format.name} is not written"
    for group in groups:
        try:
            yield from format.write(group)
        except RecordError as error:
            source = group.source
            raise error.at(file=source.file if source else f"group {group.id!r}", line=source.line if source else None) from None


def _lines(groups: Iterable[Group], format: Format, put: Callable[[bytes], object]) -> int:
    count = 0
    for record in records(groups, format):
        line = codec.dumps(record) if format is attune_native.FORMAT else _foreign(record)
        put(line.encode("utf-8") + b"\n")
        count += 1
    return count


def _foreign(record: Mapping[str, Any]) -> str:
    """One line of plain JSON; what only attune's own format can carry (bytes, nan) is refused."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, default=dict)
    except (TypeError, ValueError) as error:
        raise RecordError(f"the record is no plain JSON: {error}", value=record.get("id", ...), allowed="text, numbers, lists, objects") from None


def _parquet(groups: Iterable[Group], place: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = attune_native.COLUMNS
    schema = pa.schema([(name, pa.int32() if name == "attune" else pa.string()) for name in names])
    rows = (attune_native.columns(record) for record in records(groups, attune_native.FORMAT))
    count = 0
    with pq.ParquetWriter(place, schema) as writer:
        while batch := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
