"""Fetching fields: each function takes what it should and names what it should not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Prompt
from attune.data import fields

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "one": 1,
    "half": 0.5,
    "nan": float("nan"),
    "empty": "",
    "text": "x",
    "none": [],
    "list": ["x"],
    "object": {"x": 1},
    "turns": [{"role": "user", "content": "x", "name": None}],
}
TAKES: list[tuple[Callable[[Mapping[str, Any], str], Any], str]] = [
    (fields.text, "text"),
    (fields.number, "one half"),
    (fields.boolean, "true"),
    (fields.items, "list turns"),
    (fields.mapping, "object"),
    (fields.messages, "turns"),
    (fields.content, "text turns"),
    (fields.optional_text, "text null empty missing"),
    (fields.optional_number, "one half null missing"),
    (lambda record, name: fields.choice(record, name, (1, "x")), "one text"),
    (lambda record, name: fields.text(record, name, empty=True), "text empty"),
    (lambda record, name: fields.items(record, name, empty=True), "list turns none"),
]


@pytest.mark.parametrize(("fetch", "takes"), TAKES)
def test_each_takes_its_type_and_names_the_field_otherwise(fetch: Callable[[Mapping[str, Any], str], Any], takes: str) -> None:
    for name in (*VALUES, "missing"):
        if name in takes.split():
            fetch(VALUES, name)
            continue
        with pytest.raises(RecordError) as caught:
            fetch(VALUES, name)
        assert caught.value.field is not None
        assert caught.value.field.split("[")[0] == name
        assert "missing" not in name or str(caught.value) == "missing: the field is missing; the record has " + ", ".join(VALUES)


def test_nulls_that_parquet_fills_in_are_left_out() -> None:
    assert fields.messages(VALUES, "turns") == ({"role": "user", "content": "x"},)
    assert fields.rest({"a": None, "b": 0, "c": []}, "c") == {"b": 0}
    parts = {"m": [{"role": "user", "content": [{"type": "image", "text": None}]}]}
    assert fields.messages(parts, "m") == ({"role": "user", "content": [{"type": "image"}]},)


def test_absent_texts_and_numbers_are_none() -> None:
    assert [fields.optional_text({"a": value}, "a") for value in (None, "", "x")] == [None, None, "x"]
    assert fields.optional_number({}, "a") is None
    assert fields.optional_number({"a": 0}, "a") == 0


def test_names() -> None:
    assert fields.own_name({"a": None, "b": 0}, "a", "b") == "0"
    assert fields.own_name({"a": ""}, "a") is None
    for wrong in (True, 1.5, ["x"]):
        with pytest.raises(RecordError):
            fields.own_name({"a": wrong}, "a")
    one = {"main": Prompt(content="p")}
    assert fields.named(one) == fields.named({"main": Prompt(content="p", meta={"x": 1})})
    assert fields.named(one) != fields.named(one, "u")
    assert len(fields.named(one)) == 16
