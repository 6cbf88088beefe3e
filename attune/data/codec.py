"""JSON that loses nothing, and names made from content.

JSON lacks bytes, tuples and the floats nan and inf. Where they occur in free-form values (meta, images, parts of a turn) they are written
as an object with one key: {"$bytes": base64}, {"$tuple": [...]}, {"$float": "nan"}. An object of the source that happens to
look like one of these is wrapped: {"$dict": {...}}. Everything else is plain JSON, floats written so that they read back exactly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from attune.core.errors import RecordError

_TAGS = ("$bytes", "$tuple", "$float", "$dict")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def pack(value: Any) -> Any:
    """Returns `value` in terms of what JSON can say. Raises RecordError, naming the place inside, for anything but plain data."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Mapping):
        packed = _inside_mapping(pack, value)
        return {"$dict": packed} if _tag(value) else packed
    if isinstance(value, list):
        return _inside_list(pack, value)
    if isinstance(value, tuple):
        return {"$tuple": _inside_list(pack, value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    raise RecordError("only plain data can be written", value=value, allowed="text, numbers, true, false, null, lists, objects, bytes")


def unpack(value: Any) -> Any:
    """Undoes `pack`. Raises RecordError, naming the place inside, for a tag with a content that it cannot have."""
    if isinstance(value, list):
        return _inside_list(unpack, value)
    if not isinstance(value, Mapping):
        return value
    tag = _tag(value)
    inner = value[tag] if tag else value
    if tag == "$bytes" and isinstance(inner, str):
        try:
            return base64.b64decode(inner, validate=True)
        except ValueError:
            raise RecordError("bytes are written in base64", value=inner) from None
    if tag == "$float" and inner in ("nan", "inf", "-inf"):
        return float(inner)
    if tag == "$tuple" and isinstance(inner, list):
        return tuple(_inside_list(unpack, inner))
    if tag in (None, "$dict") and isinstance(inner, Mapping):
        return _inside_mapping(unpack, inner)
    raise RecordError("a tagged value does not hold what its tag says", value=value, allowed=", ".join(_TAGS))


def below(step: str, error: RecordError) -> RecordError:
    """Returns `error` with the place that it names put below `step`, a field's name or an index in brackets."""
    inner = error.field or ""
    error.field = step + inner if inner.startswith("[") or not inner else f"{step}.{inner}"
    return error


def dumps(value: Any) -> str:
    """Returns packed `value` as one line of JSON, readable where it can be, escaped where it holds a lone surrogate."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return line if line.isascii() or not lone_surrogate(line) else json.dumps(value, allow_nan=False, separators=(",", ":"))


def loads(line: str | bytes) -> Any:
    """Returns what a line of JSON says. Raises ValueError for bad JSON, a key that stands twice, and nesting too deep to follow."""
    try:
        return json.loads(line, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(value: Any) -> Any:
    """Returns what a typed store (Parquet, a hub) gave as plain data; dates and decimals become text. Raises RecordError for other objects."""
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return value
    if isinstance(value, Mapping):
        return _inside_mapping(plain, value)
    if isinstance(value, (list, tuple)):
        return _inside_list(plain, value)
    if isinstance(value, (date, time, timedelta, Decimal)):
        return str(value)
    raise RecordError("the value is no plain data", value=type(value).__name__, allowed="text, numbers, lists, objects, bytes, dates")


def digest(value: Any) -> str:
    """Returns the SHA-256 (64 hex digits) of plain data; keys count in any order, 1 and 1.0 differ."""
    text = json.dumps(pack(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def lone_surrogate(text: str) -> bool:
    """Says whether `text` holds half of a surrogate pair, which is no character and has no UTF-8 form."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def find_surrogate(value: Any, where: str = "") -> str | None:
    """Returns the dotted name of the first field in `value` (keys included) that holds a lone surrogate, or None."""
    if isinstance(value, str):
        return (where or "record") if lone_surrogate(value) else None
    if isinstance(value, Mapping):
        found = (find_surrogate(key, where) or find_surrogate(item, f"{where}.{key}" if where else key) for key, item in value.items())
    elif isinstance(value, list):
        found = (find_surrogate(item, f"{where}[{index}]") for index, item in enumerate(value))
    else:
        return None
    return next(filter(None, found), None)


def depth(value: Any) -> int:
    """Returns how many lists and objects stand inside each other at the deepest place of `value`; 0 for a bare value."""
    level, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, (list, dict))]:
        level += 1
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return level


def may_hold_surrogate(line: bytes) -> bool:
    """Says whether a raw line of JSON holds an escape from which a lone surrogate could come (a quick test before `find_surrogate`)."""
    return _ESCAPED_SURROGATE.search(line) is not None


def _inside_list(convert: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    made: list[Any] = []
    try:
        made.extend(map(convert, values))
    except RecordError as error:
        raise below(f"[{len(made)}]", error) from None
    return made


def _inside_mapping(convert: Callable[[Any], Any], values: Mapping[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RecordError("a key is a string", value=key, allowed="strings as keys")
        try:
            made[key] = convert(value)
        except RecordError as error:
            raise below(key, error) from None
    return made


def _tag(value: Mapping[str, Any]) -> str | None:
    if len(value) != 1:
        return None
    (key,) = value
    return key if key in _TAGS else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return made
