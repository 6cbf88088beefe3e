"""Values as a reader meets them: numbers, shares, times, and text that cannot break a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

MISSING = "—"
"""Stands for what is not known; never for 0."""

_MINUS, _THIN = "\u2212", "\u202f"
_SMALL, _LARGE = 1e-4, 1e7  # beyond these, powers of ten
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}
_UNSEEN = {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069}  # they reorder what stands around them
_SHOWN = _CONTROLS | {code: f"[U+{code:04X}]" for code in _UNSEEN} | {code: f"[U+{code:04X}]" for code in range(0xD800, 0xE000)}


def clean(value: Any) -> Any:
    """Returns text with control characters, direction overrides and lone surrogates made visible; anything else as it is."""
    return value.translate(_SHOWN) if type(value) is str else value


def finite(value: Any) -> float | None:
    """Returns a number as float, or None for what is not a finite number (booleans and texts included)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def number(value: Any, digits: int = 4) -> str:
    """Returns a number with so many significant digits, thousands apart and a true minus; whole numbers are written out whole."""
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{_MINUS if value < 0 else ''}infinite"
    held = finite(value)
    if held is None:
        return MISSING
    size = abs(held)
    if not size:
        return "0"
    if isinstance(value, int) and size < _LARGE:
        said = f"{value:,}"
    elif not _SMALL <= size < _LARGE:
        mantissa, exponent = f"{held:.{digits - 1}e}".split("e")
        said = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    else:
        whole = math.floor(math.log10(size)) + 1
        said = f"{held:,.{max(0, digits - whole)}f}"
    return said.replace(",", _THIN).replace("-", _MINUS)


def percent(value: Any, decimals: int = 1) -> str:
    """Returns a share in [0, 1] in per cent."""
    held = finite(value)
    return MISSING if held is None else f"{held * 100:.{decimals}f}{_THIN}%".replace("-", _MINUS)


def measured(value: Any, unit: str, *, share: bool = False) -> str:
    """Returns a value with its unit; shares in per cent."""
    if share:
        return percent(value)
    return f"{number(value)} {unit}".rstrip() if finite(value) is not None else number(value)


def instant(value: Any) -> datetime | None:
    """Returns the time an ISO text names, or None."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def between(started: Any, ended: Any) -> str | None:
    """Returns how long it took from one ISO time to another, in the two largest units; None where that is not known."""
    first, last = instant(started), instant(ended)
    if first is None or last is None or (first.tzinfo is None) != (last.tzinfo is None) or last < first:
        return None
    return lasting(last - first)


def lasting(span: timedelta) -> str:
    """Returns a stretch of time in its two largest units."""
    seconds = round(span.total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((index for index, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count) or "0 s"


def moment(value: Any) -> str:
    """Returns an ISO time as `2026-11-20 14:58 UTC`; a text that is no time stays as it is."""
    held = instant(value)
    if held is None:
        return MISSING if value is None else str(value)
    offset = held.utcoffset()
    return f"{held:%Y-%m-%d %H:%M}" + ("" if offset is None else " UTC" if not offset else f" {held:%z}")


def counted(num: int, one: str, many: str | None = None) -> str:
    """Returns a count with its noun."""
    return f"{number(num)} {one if num == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """Returns names as in a sentence: a, b and c."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def plain(value: Any) -> str:
    """Returns any JSON value as a reader would write it: numbers as numbers, names without quotes, mappings as `key value`, estimates with their interval."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        said = number(value, 4 if isinstance(value, float) and value != round(value, 4) else 6)
        return said.rstrip("0").rstrip(".") if "." in said and "e" not in said else said
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return f"{plain(value['value'])} [{plain(value['low'])}, {plain(value['high'])}]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or MISSING
    return MISSING if value is None else str(value)
