"""BIG-Bench Mistake: steps counted from 0; right before the mistake, unjudged behind it."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source, Step
from attune.data.formats.bigbench_mistake import FORMAT

SOURCE = Source(file="steps.jsonl", line=1, format="bigbench_mistake")
RECORD: dict[str, Any] = {
    "task": "arithmetic",
    "input": "1 + 1 =",
    "steps": ["Add.", "It is 3.", "So 3."],
    "target": "2",
    "answer": "3",
    "mistake_index": 1,
}


def test_steps_end_where_the_next_begins() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    (response,) = group.responses
    assert response.content == "Add.\nIt is 3.\nSo 3."
    # "Add." and its newline are characters 0 to 4, "It is 3." and its newline 5 to 13, "So 3." 14 to 18
    assert response.steps == (Step(end=5, label=1.0), Step(end=14, label=0.0), Step(end=19, label=None))
    assert (response.meta, group.meta) == ({"answer": "3"}, {"task": "arithmetic", "target": "2"})


def test_no_mistake_makes_all_steps_right() -> None:
    (group,) = FORMAT.parse(RECORD | {"mistake_index": None}, SOURCE)
    assert [step.label for step in group.responses[0].steps or ()] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("answer", "values"), [("2", [1.0]), ("3", [0.0]), ("", [])])
def test_the_answer_is_compared_with_the_target_unless_none_was_given(answer: str, values: list[float]) -> None:
    (group,) = FORMAT.parse(RECORD | {"answer": answer}, SOURCE)
    assert [rating.value for rating in group.ratings] == values
    assert {(rating.aspect, rating.annotator, rating.scale) for rating in group.ratings} <= {("answer", "program", (0.0, 1.0))}


@pytest.mark.parametrize("index", [3, -1, "1", 1.0, True])
def test_a_wrong_index_names_its_field(index: object) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {"mistake_index": index}, SOURCE))
    assert caught.value.field == "mistake_index"


def test_an_absent_index_is_not_a_trace_without_mistake() -> None:
    with pytest.raises(RecordError, match="missing") as caught:
        list(FORMAT.parse({name: value for name, value in RECORD.items() if name != "mistake_index"}, SOURCE))
    assert caught.value.field == "mistake_index"
