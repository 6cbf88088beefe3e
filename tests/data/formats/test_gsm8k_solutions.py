"""GSM8K example solutions: every field that holds a solution is a model."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.gsm8k_solutions import FORMAT

SOURCE = Source(file="outcomes.jsonl", line=1, format="gsm8k_solutions")
RECORD: dict[str, Any] = {
    "question": "1 + 1?",
    "ground_truth": "A: 2",
    "6b": {"is_correct": False, "solution": "A: 3"},
    "175b": {"is_correct": True, "solution": "A: 2"},
}


def test_each_model_has_a_solution_and_an_outcome() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert [(response.content, response.generator) for response in group.responses] == [("A: 3", "6b"), ("A: 2", "175b")]
    assert [(rating.response, rating.value, rating.scale, rating.aspect, rating.annotator) for rating in group.ratings] == [
        (0, 0.0, (0.0, 1.0), "answer", "program"),
        (1, 1.0, (0.0, 1.0), "answer", "program"),
    ]
    assert group.meta == {"ground_truth": "A: 2"}


def test_a_question_without_a_solution_is_another_format() -> None:
    assert not FORMAT.recognises({"question": "1 + 1?", "ground_truth": "A: 2"})


@pytest.mark.parametrize(
    ("solution", "field"), [({"is_correct": 1, "solution": "A: 2"}, "6b.is_correct"), ({"is_correct": True, "solution": None}, "6b.solution")]
)
def test_a_wrong_value_names_its_field(solution: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {"6b": solution}, SOURCE))
    assert caught.value.field == field
