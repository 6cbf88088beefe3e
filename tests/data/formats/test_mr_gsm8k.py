"""MR-GSM8K: the first wrong step is counted from 1 and carries a person's reason; a model's critique stands beside it."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source, Step
from attune.data.formats.mr_gsm8k import FORMAT

SOURCE = Source(file="judged.jsonl", line=1, format="mr_gsm8k")
RECORD: dict[str, Any] = {
    "uuid": "75bf",
    "question": "How many?",
    "ground_truth_solution": "Two.",
    "ground_truth_answer": 2,
    "model_output_steps": ["Step 1: one", "Step 2: three"],
    "model_output_answer_correctness": "correct",
    "model_output_solution_correctness": "wrong",
    "model_output_solution_first_error_step": 2,
    "model_output_solution_first_error_reason": "It is two.",
    "question_type": "POT",
    "claude2_eval_output": {"response": "All of it.", "correctness_pred": "incorrect", "error_step_pred": "1", "error_reason": "one is wrong"},
}


def test_the_first_wrong_step_is_counted_from_one() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    (response,) = group.responses
    assert response.content == "Step 1: one\nStep 2: three"
    assert response.steps == (Step(end=12, label=1.0), Step(end=25, label=0.0, note="It is two."))
    assert response.critique == "All of it."
    assert group.meta == {"ground_truth_solution": "Two.", "ground_truth_answer": 2}
    assert response.meta == {"uuid": "75bf", "question_type": "POT", "claude2_eval_output": RECORD["claude2_eval_output"]}


def test_person_and_critic_rate_apart() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert [(rating.aspect, rating.value, rating.annotator, rating.reason) for rating in group.ratings] == [
        ("solution", 0.0, None, None),
        ("answer", 1.0, None, None),
        ("solution", 0.0, "judge:claude-2", "one is wrong"),
    ]


def test_a_right_solution_has_right_steps_alone() -> None:
    right = {"model_output_solution_correctness": "correct", "model_output_solution_first_error_step": "N/A", "model_output_solution_first_error_reason": "N/A"}
    (group,) = FORMAT.parse(RECORD | right, SOURCE)
    assert [(step.label, step.note) for step in group.responses[0].steps or ()] == [(1.0, None), (1.0, None)]


def test_a_critic_without_a_judgement_rates_nothing() -> None:
    critic = RECORD["claude2_eval_output"] | {"correctness_pred": "unsure"}
    (group,) = FORMAT.parse(RECORD | {"claude2_eval_output": critic}, SOURCE)
    assert [rating.annotator for rating in group.ratings] == [None, None]
    assert list(group.meta["doubts"]) == ["claude2_eval_output.correctness_pred"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_output_solution_first_error_step": 0}, "model_output_solution_first_error_step"),
        ({"model_output_solution_first_error_step": 3}, "model_output_solution_first_error_step"),
        ({"model_output_solution_correctness": "right"}, "model_output_solution_correctness"),
        ({"model_output_steps": []}, "model_output_steps"),
        ({"claude2_eval_output": {"response": 1}}, "claude2_eval_output.response"),
    ],
)
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
