"""Every field of a group survives attune's own format, in JSONL and in Parquet."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attune.core.errors import RecordError
from attune.core.record import Change, Edit, Group, Prompt, Rating, Response, Source, Span, Step, Verdict
from attune.data.formats.attune_native import FORMAT
from attune.data.read import read
from attune.data.write import write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
UNIT = st.none() | st.floats(0, 1)
MAYBE = st.none() | TEXT
TAGS = st.sampled_from(["$bytes", "$tuple", "$float", "$dict", "a", ""])
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=2).map(tuple) | st.dictionaries(TAGS | TEXT, inner, max_size=3),
    max_leaves=6,
)
META = st.dictionaries(NAME, FREE, max_size=3)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), min_size=1, max_size=2)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": TEXT | PARTS}, optional={"name": TEXT, "x": FREE})
TURNS = st.lists(MESSAGE, min_size=1, max_size=3).map(tuple)
PROMPT = st.builds(
    Prompt,
    content=NAME | TURNS,
    tools=st.lists(META, max_size=2).map(tuple),
    images=st.lists(FREE, max_size=2).map(tuple),
    meta=META,
)


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[Span, ...] | None:
    if length == 0:
        return draw(st.sampled_from([None, ()]))
    start = draw(st.integers(0, length - 1))
    span = Span(start=start, end=draw(st.integers(start + 1, length)), type=draw(TEXT), note=draw(MAYBE), annotator=draw(MAYBE))
    return draw(st.sampled_from([None, (), (span,), (span, span)]))


@st.composite
def responses(draw: st.DrawFn, contexts: list[str], index: int, num: int) -> Response:
    content: Any = draw(st.none() | TEXT | TURNS)
    length = len(content) if isinstance(content, str) else 0
    ends = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
    tokens = draw(st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple))
    others = [other for other in range(num) if other != index]
    change = Change(original=draw(TEXT), replacement=draw(TEXT), start=draw(st.none() | st.just(0)), type=draw(MAYBE))
    edit = st.builds(Edit, of=st.sampled_from(others), changes=st.sampled_from([None, (), (change,)]), annotator=MAYBE, reason=MAYBE) if others else st.none()
    steps = tuple(Step(end=end, label=draw(st.none() | FLOAT), note=draw(MAYBE), annotator=draw(MAYBE)) for end in ends)
    return Response(
        content=content,
        generator=draw(MAYBE),
        token_ids=tokens,
        logps=draw(st.none() if tokens is None else st.none() | st.just(tuple(-0.1 / (place + 3) for place in range(len(tokens))))),
        scores=draw(st.dictionaries(TAGS | NAME, FLOAT, max_size=2)),
        spans=draw(spans(length)) if isinstance(content, str) else None,
        steps=draw(st.sampled_from([None, (), steps])) if isinstance(content, str) else None,
        critique=draw(MAYBE),
        edit=draw(st.none() | edit),
        context=draw(st.sampled_from(contexts)) if contexts else draw(NAME),
        meta=draw(META),
    )


@st.composite
def verdicts(draw: st.DrawFn, num: int) -> Verdict:
    order = draw(st.permutations(range(num)))
    cut = draw(st.integers(1, num - 1))
    tiers = draw(st.sampled_from([(tuple(order[:cut]), tuple(order[cut:])), (tuple(order),), tuple((one,) for one in order)]))
    return Verdict(
        tiers=tiers,
        presented=draw(st.none() | st.permutations(range(num)).map(tuple)),
        annotator=draw(MAYBE),
        criterion=draw(MAYBE),
        strength=draw(st.none() | st.floats(0, 1e9)),
        both_bad=draw(st.booleans()),
        confidence=draw(UNIT),
        reason=draw(MAYBE),
        guideline=draw(MAYBE),
    )


@st.composite
def groups(draw: st.DrawFn) -> Group:
    contexts = draw(st.dictionaries(st.just("main") | NAME, PROMPT, max_size=2))
    num = draw(st.integers(0, 3))
    rating = st.builds(
        Rating,
        response=st.integers(0, num - 1),
        value=st.just("abstain") | st.floats(0, 1),
        scale=st.sampled_from([None, (0.0, 1.0), (-1.5, 2)]),
        aspect=MAYBE,
        annotator=MAYBE,
        reason=MAYBE,
        confidence=UNIT,
    )
    return Group(
        id=draw(NAME),
        contexts=contexts,
        responses=tuple(draw(responses(list(contexts), index, num)) for index in range(num)),
        verdicts=tuple(draw(st.lists(verdicts(num), max_size=2))) if num > 1 else (),
        ratings=tuple(draw(st.lists(rating, max_size=2))) if num else (),
        user=draw(MAYBE),
        criterion=draw(MAYBE),
        source=draw(st.none() | st.builds(Source, file=TEXT, line=st.none() | st.integers(1), format=MAYBE)),
        meta=draw(META),
    )


def typed(value: Any) -> Any:
    """A value in which 0.0 and -0.0, 1 and True, a list and a tuple differ."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(typed(getattr(value, field.name)) for field in dataclasses.fields(value))]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(typed, value)]
    return (type(value).__name__, repr(value))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(groups(), min_size=1, max_size=3, unique_by=lambda group: group.id))
def test_every_field_survives(made: list[Group]) -> None:
    with TemporaryDirectory() as folder:
        for name in ("groups.jsonl", "groups.parquet"):
            assert write(made, Path(folder, name)) == len(made)
            back = list(read(Path(folder, name), group_equal=False))
            assert [typed(group) for group in back] == [typed(group) for group in made]


def test_every_field_of_the_record_is_generated() -> None:
    """The generator above knows every field: one that the nouns gain must be added there."""
    known = {
        Prompt: {"content", "tools", "images", "meta"},
        Response: {"content", "generator", "token_ids", "logps", "scores", "spans", "steps", "critique", "edit", "context", "meta"},
        Rating: {"response", "value", "scale", "aspect", "annotator", "reason", "confidence"},
        Verdict: {"tiers", "presented", "annotator", "criterion", "strength", "both_bad", "confidence", "reason", "guideline"},
        Edit: {"of", "changes", "annotator", "reason"},
        Change: {"original", "replacement", "start", "type"},
        Span: {"start", "end", "type", "note", "annotator"},
        Step: {"end", "label", "note", "annotator"},
        Source: {"file", "line", "format"},
        Group: {"id", "contexts", "responses", "verdicts", "ratings", "user", "criterion", "source", "meta"},
    }
    for kind, names in known.items():
        assert {field.name for field in dataclasses.fields(kind)} == names


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_what_json_cannot_say_survives(tmp_path: Path, suffix: str) -> None:
    meta = {"bytes": b"\x00\xff", "tuple": (1, (2.0,)), "infinite": [math.inf, -math.inf], "looks": {"$bytes": "not ours"}, "none": None, "big": 10**30}
    group = Group(id="ä", contexts={"main": Prompt(content="p", images=(b"\x89PNG", {"bytes": b"", "path": None}))}, meta=meta)
    write([group], tmp_path / f"one{suffix}")
    (back,) = read(tmp_path / f"one{suffix}")
    assert typed(back) == typed(group)


def test_a_group_written_by_hand_needs_only_its_name_and_comes_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "hand.jsonl").write_text('{"attune": 1, "id": "a", "contexts": {"main": {"content": "Hi"}}}\n')
    (group,) = read(tmp_path / "hand.jsonl")
    assert group == Group(id="a", contexts={"main": Prompt(content="Hi")}, source=Source(file=str(tmp_path / "hand.jsonl"), line=1, format="attune_native"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attune": 2}, "attune"),
        ({"colour": "red"}, "colour"),
        ({"responses": [{"generator": "g"}]}, "responses[0].content"),
        ({"responses": [{"content": "x", "scores": {"a": "9"}}]}, "responses[0].scores.a"),
        ({"responses": [{"content": "x", "spans": [{"start": 0, "end": 2, "type": "t"}]}]}, "responses[0].spans"),
        ({"responses": [{"content": "x"}], "ratings": [{"response": 0, "value": 6, "scale": [1, 5]}]}, "ratings[0].value"),
        ({"responses": [{"content": "x"}], "ratings": [{"response": 1, "value": 6}]}, "ratings[0].response"),
        ({"responses": [{"content": "x"}, {"content": "y"}], "verdicts": [{"tiers": [[0], [0]]}]}, "verdicts[0].tiers"),
        ({"responses": [{"content": "x"}, {"content": "y"}], "verdicts": [{"tiers": [[0], [1]], "both_bad": 0}]}, "verdicts[0].both_bad"),
        ({"meta": {"a": {"$bytes": "?"}}}, "meta.a"),
        ({"contexts": '{"main": '}, "contexts"),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, Any], field: str) -> None:
    record = {"attune": 1, "id": "a", **change}
    assert FORMAT.recognises(record)
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(record, Source(file="f")))
    assert caught.value.field == field


def test_an_unset_field_takes_no_room() -> None:
    assert FORMAT.write is not None
    (record,) = FORMAT.write(Group(id="a", responses=(Response(content="x"),)))
    assert json.dumps(record) == '{"attune": 1, "source": null, "id": "a", "responses": [{"content": "x"}]}'
