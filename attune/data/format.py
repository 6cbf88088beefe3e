"""What a source format is: how its records are recognised, read into Groups and, where it makes sense, written back.

One file a format in `attune/data/formats/`; the file's name is the format's name. A file holds one constant, FORMAT. Adding a
format is a new file and its test; no code is edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attune.core.record import Group, Source

Record = Mapping[str, Any]
"""One decoded line (JSON object) or row (Parquet) of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one source format is read and written."""

    name: str
    # equal to the file's name
    title: str
    # one line for people: what it is and who writes it
    recognises: Callable[[Record], bool]
    # whether a record looks like this format; formats are disjoint on well-formed records, a test holds it
    parse: Callable[[Record, Source], Iterable[Group]]
    # one record -> its groups (normally one; joined later with the others of the same prompt). Raises RecordError naming the field
    write: Callable[[Group], Iterable[Record]] | None = None
    # the way back; None: the format cannot hold what a Group holds, or nobody needs it. Raises RecordError for a group it cannot say
    table: bool = False
    # True: numbers without texts (scores, counts); evals read these, they are never groups
    fields: tuple[str, ...] = ()
    # the fields a record must have, for the message when a named format does not fit
