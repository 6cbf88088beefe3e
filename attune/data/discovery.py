"""Finds the formats by file name and tells which one a file is in."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from attune.core.errors import FormatError
from attune.data import formats as folder
from attune.data.format import Format, Record

_SHOWN = 40  # characters of a field's name that a message repeats


@cache
def formats() -> Mapping[str, Format]:
    """Returns every format by name: one a file in attune/data/formats/, and those of other packages (entry points `attune.formats`)."""
    found = {name: importlib.import_module(f"{folder.__name__}.{name}").FORMAT for _, name, _ in pkgutil.iter_modules(folder.__path__)}
    found |= {entry.name: entry.load() for entry in entry_points(group="attune.formats")}
    for name, format in found.items():
        assert format.name == name, f"format {format.name!r} lives in a file named {name!r}"
    return MappingProxyType(dict(sorted(found.items())))


def named(name: str) -> Format:
    """Returns the format called `name`. Raises FormatError listing those that exist."""
    if name not in formats():
        raise FormatError("there is no such format", field="format", value=name, allowed=", ".join(formats()))
    return formats()[name]


def detect(records: Sequence[Record], *, file: str) -> Format:
    """Returns the format that recognises most of a file's first records, and more than half.

    Raises:
        FormatError: none or several do; it lists the fields seen and the formats known.
    """
    counts = {name: sum(map(format.recognises, records)) for name, format in formats().items()}
    most = max(counts.values())
    best = [name for name, count in counts.items() if count == most]
    if 2 * most <= len(records):
        raise FormatError(
            f"the format is not known; its records have {_seen(records)}", file=file, allowed=", ".join(formats()), mend="name the format if it is one of these"
        )
    if len(best) > 1:
        raise FormatError(f"several formats fit; its records have {_seen(records)}", file=file, allowed=", ".join(best), mend="name the one that is meant")
    return formats()[best[0]]


def confirm(format: Format, records: Sequence[Record], *, file: str) -> Format:
    """Returns `format` if it recognises any of a file's first records. Raises FormatError saying what lacks, and what it looks like instead."""
    if any(map(format.recognises, records)):
        return format
    lacking = [name for name in format.fields if not any(name in record for record in records)]
    why = f"no record has {' or '.join(map(repr, lacking))}" if lacking else "its fields do not hold what the format says"
    like = [name for name, other in formats().items() if any(map(other.recognises, records))]
    mend = f"it looks like {' or '.join(like)}" if like else None
    raise FormatError(f"the file is not in the format {format.name!r}: {why}; its records have {_seen(records)}", file=file, mend=mend)


def _seen(records: Sequence[Record]) -> str:
    names = {str(name)[:_SHOWN]: None for record in records for name in record}
    return "the fields " + ", ".join(names) if names else "no fields"
