"""What several formats build alike."""

import pytest

from attune.core.errors import RecordError
from attune.core.record import Step
from attune.data.parts import asked, below, grade, noted, solution, whole


def test_a_question_is_one_turn_of_its_non_empty_parts() -> None:
    assert asked("Add.", "", "1 + 1")["main"].content == ({"role": "user", "content": "Add.\n\n1 + 1"},)
    with pytest.raises(RecordError, match="not empty"):
        asked("", "")


@pytest.mark.parametrize(("value", "found"), [("6", 6.0), (" 6.5 ", 6.5), (6, 6.0), (1.0, 1.0)])
def test_a_grade_may_be_spelt_as_text(value: object, found: float) -> None:
    assert grade({"score": value}, "score", 1, 7) == found


@pytest.mark.parametrize("value", ["7.1", 0, "1e0", "inf", "nan", "", "six", True, None, [6]])
def test_a_grade_is_a_number_on_its_scale(value: object) -> None:
    with pytest.raises(RecordError) as caught:
        grade({"score": value}, "score", 1, 7)
    assert caught.value.field == "score"


@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_whole_number_is_no_float_text_or_boolean(value: object) -> None:
    assert whole({"idx": 0}, "idx") == 0
    with pytest.raises(RecordError):
        whole({"idx": value}, "idx")


def test_steps_close_with_their_newline() -> None:
    # "ab\n" ends at 3, "\n" (an empty step) at 4, "c" at 5
    assert solution(["ab", "", "c"], 1, "why") == ("ab\n\nc", (Step(end=3, label=1.0), Step(end=4, label=0.0, note="why"), Step(end=5)))
    assert solution(["ab"], None) == ("ab", (Step(end=2, label=1.0),))


@pytest.mark.parametrize("first_wrong", [-1, 2])
def test_the_first_wrong_step_is_one_of_the_steps(first_wrong: int) -> None:
    with pytest.raises(RecordError, match="0 to 1"):
        solution(["a", "b"], first_wrong)


def test_a_field_is_named_from_the_outside_in() -> None:
    with pytest.raises(RecordError) as caught, below("a[0]"), below("b"):
        raise RecordError("wrong", field="c")
    assert caught.value.field == "a[0].b.c"
    with pytest.raises(RecordError) as bare, below("a"):
        raise RecordError("wrong")
    assert bare.value.field == "a"


def test_nothing_odd_is_noted_as_nothing() -> None:
    assert noted({}) == {}
    assert noted({"field": "reason"}) == {"doubts": {"field": "reason"}}
