"""UltraFeedback, raw: aspects and overall, N/A is an abstention, a 10 that may be a 1 is flagged and left."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Rating, Source
from attune.data.formats.ultrafeedback import ANNOTATOR, FORMAT

HERE = Source(file="f", line=1)


def completion(overall: float, *ratings: str) -> dict[str, Any]:
    annotations = {f"aspect{number}": {"Rating": rating, "Rationale": f"r{number}"} for number, rating in enumerate(ratings)}
    return {"model": "m", "response": f"answer {overall}", "principle": "honesty", "critique": "c", "annotations": annotations, "overall_score": overall}


def test_ratings_abstentions_and_reasons() -> None:
    record = {"source": "s", "instruction": "i", "models": ["m"], "completions": [completion(7.5, "5", "N/A")], "correct_answers": ["None"]}
    assert FORMAT.recognises(record)
    (group,) = FORMAT.parse(record, HERE)
    assert group.prompt.content == ({"role": "user", "content": "i"},)
    assert group.ratings == (
        Rating(response=0, value=5.0, scale=(1.0, 5.0), aspect="aspect0", annotator=ANNOTATOR, reason="r0"),
        Rating(response=0, value="abstain", scale=(1.0, 5.0), aspect="aspect1", annotator=ANNOTATOR, reason="r1"),
        Rating(response=0, value=7.5, scale=(1.0, 10.0), annotator=ANNOTATOR, reason="c"),
    )
    (response,) = group.responses
    assert (response.generator, response.critique, response.meta) == ("m", "c", {"principle": "honesty"})
    assert group.meta == {"source": "s", "correct_answers": ["None"]}


def test_lists_of_one_and_two_rationales() -> None:
    said = [{"Type": ["1"], "Rationale": "why", "Rating": "2", "Rationale For Rating": "because"}]
    (group,) = FORMAT.parse({"instruction": "i", "completions": [{"response": "x", "annotations": {"helpfulness": said}}]}, HERE)
    assert group.ratings == (Rating(response=0, value=2.0, scale=(1.0, 5.0), aspect="helpfulness", annotator=ANNOTATOR, reason="why\nbecause"),)


def test_a_ten_that_the_aspects_do_not_bear_out_is_doubted_and_left() -> None:
    completions = [completion(10, "1", "2", "N/A"), completion(10, "5", "4"), completion(9, "1", "1"), completion(10, "4", "4")]
    (group,) = FORMAT.parse({"instruction": "i", "completions": completions}, HERE)
    # means over the aspects: 1.5, 4.5, 1, 4; only a 10 is doubted, and only up to a mean of 4
    assert list(group.meta["doubts"]) == ["completions[0].overall_score", "completions[3].overall_score"]
    assert "average 1.50 of 5" in group.meta["doubts"]["completions[0].overall_score"]
    assert [rating.value for rating in group.ratings if rating.aspect is None] == [10, 10, 9, 10]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"annotations": {"helpfulness": {"Rating": "5/5"}}}, "completions[1].annotations.helpfulness.Rating"),
        ({"annotations": {"helpfulness": {"Rating": "6"}}}, "completions[1].annotations.helpfulness.Rating"),
        ({"annotations": {"helpfulness": 4}}, "completions[1].annotations.helpfulness"),
        ({"annotations": []}, "completions[1].annotations"),
        ({"response": None}, "completions[1].response"),
        ({"overall_score": True}, "completions[1].overall_score"),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, Any], field: str) -> None:
    record = {"instruction": "i", "completions": [completion(5, "5"), {**completion(5, "5"), **change}]}
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(record, HERE))
    assert caught.value.field == field
