"""attune's own format: a group a record, every field kept. In JSONL the parts stand as objects, in Parquet as columns of JSON text."""

from __future__ import annotations

from collections.abc import Iterator

from attune.core.errors import RecordError
from attune.core.record import Group, Source
from attune.data import codec, schema
from attune.data.format import Format, Record

VERSION = 1
"""What the field `attune` holds: the version of this layout."""

COLUMNS = ("attune", "id", "user", "criterion", "contexts", "responses", "verdicts", "ratings", "source", "meta")
"""Columns of the Parquet form; those from `contexts` on hold JSON text. null: the group has nothing there."""

_NESTED = COLUMNS[COLUMNS.index("contexts") :]


def _recognises(record: Record) -> bool:
    version = record.get("attune")
    return isinstance(version, int) and not isinstance(version, bool) and isinstance(record.get("id"), str)


def _parse(record: Record, source: Source) -> Iterator[Group]:
    """Yields the one group with the source it was written with; a record that says nothing of a source comes from here."""
    if record.get("attune") != VERSION:
        raise RecordError("the record is of a version this attune does not know", field="attune", value=record.get("attune"), allowed=str(VERSION))
    said = {name: _text_or_value(name, value) for name, value in record.items() if name != "attune" and (value is not None or name == "source")}
    yield schema.load(Group, {"source": schema.dump(source), **said})


def _write(group: Group) -> Iterator[Record]:
    yield {"attune": VERSION, "source": None, **schema.dump(group)}


def columns(record: Record) -> dict[str, object]:
    """Returns a written record as one row of the Parquet form."""
    return {name: codec.dumps(record[name]) if name in _NESTED and name in record else record.get(name) for name in COLUMNS}


def _text_or_value(name: str, value: object) -> object:
    if name not in _NESTED or not isinstance(value, str):
        return value
    try:
        return codec.loads(value)
    except ValueError as error:
        raise RecordError(f"the column is not JSON: {error}", field=name, value=value) from None


FORMAT = Format(
    name="attune_native",
    title="attune's own records: every field of a group, JSONL or Parquet",
    recognises=_recognises,
    parse=_parse,
    write=_write,
    fields=("attune", "id"),
)
