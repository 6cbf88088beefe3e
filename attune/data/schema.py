"""The record's dataclasses as plain data and back, driven by their own annotations: a field added to the nouns is carried at once.

What a type needs is worked out once (`_dumper`, `_loader`); where a value stands is worked out only when something is wrong with it,
on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from attune.core.errors import RecordError
from attune.data.codec import below, pack, unpack

Convert = Callable[[Any], Any]


def dump(item: Any) -> dict[str, Any]:
    """Returns a dataclass of the record as plain JSON data; fields that hold their default are left out.

    Raises:
        RecordError: naming the field, for a value that is no plain data.
    """
    kind: Any = type(item)
    said: dict[str, Any] = _dumper(kind)(item)
    return said


def load(kind: Any, value: Any) -> Any:
    """Returns the dataclass `kind` that `dump` wrote.

    Args:
        kind: a dataclass of the record.
        value: plain JSON data.

    Raises:
        RecordError: naming the field, for an unknown or missing field, a wrong type, or a contradiction the record itself finds.
    """
    return _loader(kind)(value)


@cache
def _dumper(hint: Any) -> Convert:
    if hint is Any:
        return pack
    if _is_noun(hint):
        return _dump_fields(hint)
    turns: list[tuple[Any, Convert]] = []
    for option in _options(hint):
        inner = [one for one in get_args(option) if one is not Ellipsis]
        if get_origin(option) is tuple:
            turns.append((tuple, _each(_dumper(inner[0]))))
        elif get_origin(option) is Mapping:
            turns.append((Mapping, pack if inner[1] is Any else _each_value(_dumper(inner[1]))))
        elif _is_noun(option):
            turns.append((option, _dumper(option)))

    def dump_one(value: Any) -> Any:
        for kind, convert in turns:
            if isinstance(value, kind):
                return convert(value)
        return pack(value)

    return dump_one if turns else pack


def _dump_fields(kind: Any) -> Convert:
    known = [(name, _dumper(hint), default) for name, (hint, default) in _hints(kind).items()]

    def dump_item(item: Any) -> dict[str, Any]:
        said = {}
        for name, convert, default in known:
            value = getattr(item, name)
            if value != default:
                try:
                    said[name] = convert(value)
                except RecordError as error:
                    raise below(name, error) from None
        return said

    return dump_item


@cache
def _loader(hint: Any) -> Convert:
    if hint is Any:
        return unpack
    if _is_noun(hint):
        return _load_fields(hint)
    turns = [(_fits(option), _inside(option)) for option in _options(hint)]
    allowed = " or ".join(map(_say, _options(hint)))

    def load_one(value: Any) -> Any:
        for fits, convert in turns:
            if fits(value):
                return convert(value)
        raise RecordError("it is of the wrong type", value=value, allowed=allowed)

    return load_one


def _load_fields(kind: Any) -> Convert:
    known = {name: (_loader(hint), default is MISSING) for name, (hint, default) in _hints(kind).items()}
    needed = [name for name, (_, required) in known.items() if required]
    own = kind.__name__.lower()

    def load_item(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise RecordError("it is of the wrong type", value=value, allowed="an object")
        made = {}
        for name, item in value.items():
            if name not in known:
                raise RecordError("the field is not known", field=name, value=item, allowed=", ".join(known))
            try:
                made[name] = known[name][0](item)
            except RecordError as error:
                raise below(name, error) from None
        for name in needed:
            if name not in made:
                raise RecordError("the field is missing", field=name, mend="the object has " + (", ".join(value) or "no field"))
        try:
            return kind(**made)
        except RecordError as error:
            # the record calls itself by its kind ("verdict.tiers"); its place comes before that on the way out ("verdicts[2].tiers")
            error.field = (error.field or "").removeprefix(own).removeprefix(".") or None
            raise

    return load_item


def _inside(option: Any) -> Convert:
    """What turns a value of the outer type `option` into it."""
    inner = get_args(option)
    if get_origin(option) is tuple:
        each = _each(_loader(inner[0]))
        return (lambda value: tuple(each(value))) if Ellipsis in inner else _exactly(len(inner), each)
    if get_origin(option) is Mapping:
        return unpack if inner[1] is Any else _each_value(_loader(inner[1]))
    if _is_noun(option):
        return _loader(option)
    return unpack if option is float else lambda value: value


def _fits(option: Any) -> Callable[[Any], bool]:
    """Whether a value is of the outer type of `option`."""
    if get_origin(option) is Literal:
        return lambda value: isinstance(value, str) and value in get_args(option)
    if option is float:
        # an infinite number is written with a tag
        return lambda value: (isinstance(value, (int, float)) and not isinstance(value, bool)) or (isinstance(value, Mapping) and "$float" in value)
    if option is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    kind: Any = list if get_origin(option) is tuple else Mapping if get_origin(option) is Mapping or _is_noun(option) else option
    return lambda value: isinstance(value, kind)


def _each(convert: Convert) -> Callable[[Any], list[Any]]:
    def convert_all(values: Any) -> list[Any]:
        made: list[Any] = []
        try:
            made.extend(map(convert, values))
        except RecordError as error:
            raise below(f"[{len(made)}]", error) from None
        return made

    return convert_all


def _exactly(num: int, convert_all: Callable[[Any], list[Any]]) -> Convert:
    def convert(values: Any) -> tuple[Any, ...]:
        if len(values) != num:
            raise RecordError("it is of the wrong type", value=values, allowed=f"a list of {num}")
        return tuple(convert_all(values))

    return convert


def _each_value(convert: Convert) -> Convert:
    def convert_all(values: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in values.items():
            try:
                made[name] = convert(value)
            except RecordError as error:
                raise below(name, error) from None
        return made

    return convert_all


def _hints(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Field name -> (type, default; MISSING where there is none)."""
    types = get_type_hints(kind)
    made = {}
    for field in fields(kind):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        made[field.name] = (types[field.name], default)
    return made


def _is_noun(hint: Any) -> bool:
    return is_dataclass(hint)


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _say(option: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
    if get_origin(option) is Literal:
        return ", ".join(map(repr, get_args(option)))
    return names.get(option) or ("a list" if get_origin(option) is tuple else "an object")
