"""Fetches a field of a record in the type it must have, or says which field is wrong, what stands there and what is allowed.

Format files use these in place of `record[...]`, so that a malformed record is a RecordError with a field and never a crash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attune.core.errors import RecordError
from attune.core.record import TEMPLATE_OPTIONS, Content, Message, Prompt
from attune.data.codec import digest

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Who may speak in a turn."""

_MISSING = object()


def text(record: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """Returns a field that must be text. Raises RecordError where it is absent, of another type, or "" while `empty` is False."""
    return as_text(_get(record, name), name, empty=empty)


def optional_text(record: Mapping[str, Any], name: str) -> str | None:
    """Returns a text field, or None where it is absent, null or "". Raises RecordError for another type."""
    value = record.get(name)
    return None if value is None else as_text(value, name, empty=True) or None


def number(record: Mapping[str, Any], name: str) -> float:
    """Returns a field that must be a finite number. Raises RecordError where it is absent or anything else (a string of digits included)."""
    return as_number(_get(record, name), name)


def optional_number(record: Mapping[str, Any], name: str) -> float | None:
    """Returns a number field, or None where it is absent or null. Raises RecordError for anything else."""
    value = record.get(name)
    return None if value is None else as_number(value, name)


def boolean(record: Mapping[str, Any], name: str) -> bool:
    """Returns a field that must be true or false. Raises RecordError for anything else (0 and 1 included)."""
    value = _get(record, name)
    if not isinstance(value, bool):
        raise RecordError("it is true or false", field=name, value=value, allowed="true, false")
    return value


def items(record: Mapping[str, Any], name: str, *, empty: bool = False) -> Sequence[Any]:
    """Returns a field that must be a list. Raises RecordError where it is absent, of another type, or [] while `empty` is False."""
    value = _get(record, name)
    if not isinstance(value, (list, tuple)) or not (value or empty):
        raise RecordError("it is a list", field=name, value=value, allowed="a list" if empty else "a list of at least one")
    return value


def mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns a field that must be an object. Raises RecordError where it is absent or of another type."""
    return as_mapping(_get(record, name), name)


def choice(record: Mapping[str, Any], name: str, allowed: Sequence[Any]) -> Any:
    """Returns a field that must be one of `allowed`, type included. Raises RecordError for anything else."""
    value = _get(record, name)
    if not any(type(value) is type(other) and value == other for other in allowed):
        raise RecordError("it is none of the values known", field=name, value=value, allowed=", ".join(map(repr, allowed)))
    return value


def messages(record: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    """Returns a field that must be turns: a list of objects with `role` and `content`. Raises RecordError naming the turn at fault."""
    return as_messages(_get(record, name), name)


def content(record: Mapping[str, Any], name: str, *, empty: bool = False) -> Content:
    """Returns a field that must be text or turns. Raises RecordError for anything else."""
    value = _get(record, name)
    return as_messages(value, name) if isinstance(value, (list, tuple)) else as_text(value, name, empty=empty)


def rest(record: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """Returns the fields that a format did not use, to be kept as meta; nulls, which Parquet fills in, are left out."""
    return {name: value for name, value in record.items() if name not in used and value is not None}


def own_name(record: Mapping[str, Any], *names: str) -> str | None:
    """Returns what the source calls a record: the first of the fields `names` that holds text or a whole number, as text; None where none does.

    Raises:
        RecordError: one of them holds something else.
    """
    for name in names:
        value = record.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise RecordError("a name is text or a whole number", field=name, value=value, allowed="text or a whole number")
        return str(value)
    return None


def named(contexts: Mapping[str, Prompt], *others: Any) -> str:
    """Returns a name for a group whose source gives none: 16 hex digits of the SHA-256 of its prompts and of `others` (plain data)."""
    prompts = {name: [prompt.content, prompt.tools, prompt.images, prompt.meta.get(TEMPLATE_OPTIONS)] for name, prompt in contexts.items()}
    return digest([prompts, *others])[:16]


def as_text(value: Any, where: str, *, empty: bool = False) -> str:
    """Returns `value` if it is text (not "" while `empty` is False). Raises RecordError naming `where`."""
    if not isinstance(value, str):
        raise RecordError("it is text", field=where, value=value, allowed="a string")
    if not value and not empty:
        raise RecordError("it is not empty", field=where, value=value, allowed="text with at least one character")
    return value


def as_number(value: Any, where: str) -> float:
    """Returns `value` if it is a finite number. Raises RecordError naming `where`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RecordError("it is a number", field=where, value=value, allowed="a finite number")
    return value


def as_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Returns `value` if it is an object. Raises RecordError naming `where`."""
    if not isinstance(value, Mapping):
        raise RecordError("it is an object", field=where, value=value, allowed="an object")
    return value


def as_messages(value: Any, where: str) -> tuple[Message, ...]:
    """Returns `value` as turns. Raises RecordError naming the turn at fault below `where`."""
    if not isinstance(value, (list, tuple)) or not value:
        raise RecordError("it is a list of turns", field=where, value=value, allowed="a list of at least one turn")
    return tuple(as_message(turn, f"{where}[{index}]") for index, turn in enumerate(value))


def as_message(value: Any, where: str) -> Message:
    """Returns `value` as one turn; nulls in it, which Parquet fills in, are left out. Raises RecordError naming what is wrong below `where`."""
    turn = as_mapping(value, where)
    role, said = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise RecordError("nobody of that role speaks in a turn", field=f"{where}.role", value=role, allowed=", ".join(ROLES))
    if isinstance(said, (list, tuple)):
        parts = [as_mapping(part, f"{where}.content[{index}]") for index, part in enumerate(said)]
        return _without_nulls({**turn, "content": [_without_nulls(part) for part in parts]})
    if said is not None or not turn.get("tool_calls"):
        as_text(said, f"{where}.content", empty=True)
    return _without_nulls(turn)


def _without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in record.items() if item is not None}


def _get(record: Mapping[str, Any], name: str) -> Any:
    value = record.get(name, _MISSING)
    if value is _MISSING:
        raise RecordError("the field is missing", field=name, mend="the record has " + (", ".join(map(str, record)) or "no field"))
    return value
