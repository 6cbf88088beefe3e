"""JSON that loses nothing, and hashes of content."""

from __future__ import annotations

import hashlib
import math

import pytest

from attune.core.errors import RecordError
from attune.data import codec


def test_a_digest_is_that_of_sorted_ascii_json() -> None:
    text = '{"a":["\\u00e4",1.0],"b":null}'
    assert codec.digest({"b": None, "a": ["ä", 1.0]}) == hashlib.sha256(text.encode()).hexdigest()
    assert codec.digest({"a": 1}) != codec.digest({"a": 1.0})


def test_what_looks_like_a_tag_is_wrapped() -> None:
    assert codec.pack({"$tuple": [1]}) == {"$dict": {"$tuple": [1]}}
    assert codec.unpack({"$dict": {"$tuple": [1]}}) == {"$tuple": [1]}
    assert codec.pack((b"ab", -math.inf)) == {"$tuple": [{"$bytes": "YWI="}, {"$float": "-inf"}]}


@pytest.mark.parametrize("value", [{"$bytes": "a"}, {"$bytes": 1}, {"$float": "one"}, {"$tuple": {}}, {"$dict": []}])
def test_a_tag_with_another_content_is_refused(value: object) -> None:
    with pytest.raises(RecordError) as caught:
        codec.unpack({"a": [value]})
    assert caught.value.field == "a[0]"


@pytest.mark.parametrize(("value", "field"), [({"a": {1: 2}}, "m.a"), ([object()], "m[0]"), ({"a": {2, 3}}, "m.a")])
def test_what_is_no_plain_data_is_refused(value: object, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        codec.pack({"m": value})
    assert caught.value.field == field


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' stands twice"):
        codec.loads('{"x": {"a": 1, "b": 2, "a": 3}}')


def test_lone_surrogates_are_found_and_written_escaped() -> None:
    assert codec.find_surrogate({"a": [{"b": "ok \U0001f600"}, {"c": "half \ud83d"}]}) == "a[1].c"
    assert codec.find_surrogate({"a": "\U0001f600"}) is None
    assert codec.dumps({"a": "ä\ud83d"}) == '{"a":"\\u00e4\\ud83d"}'
    assert codec.dumps({"a": "ä"}) == '{"a":"ä"}'
    assert codec.may_hold_surrogate(rb'"\ud83d\ude00"')
    assert not codec.may_hold_surrogate(rb'"\u00e4\ue000"')


@pytest.mark.parametrize(("value", "levels"), [(1, 0), ({}, 1), ({"a": [{"b": 1}], "c": 2}, 3)])
def test_depth_counts_levels(value: object, levels: int) -> None:
    assert codec.depth(value) == levels
