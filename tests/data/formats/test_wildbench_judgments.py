"""WildBench judgments: scored answers without prompts, joined by session."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.wildbench_judgments import FORMAT
from attune.data.group import merge

SOURCE = Source(file="judged.jsonl", line=1, format="wildbench_judgments")
RECORD: dict[str, Any] = {
    "session_id": "bba8",
    "parsed_result": {"strengths": "Short.", "weaknesses": "Wrong.", "score": "4"},
    "meta_data": {"error": None},
    "model_test": "a/model",
    "score": "4",
    "model_output": "Five.",
}


def test_a_record_is_a_scored_answer_without_a_prompt() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert (group.id, group.contexts, group.untrainable) == ("wildbench-bba8", {}, "the source holds no prompt")
    assert (group.responses[0].content, group.responses[0].generator, group.responses[0].meta) == ("Five.", "a/model", {"meta_data": {"error": None}})
    (rating,) = group.ratings
    assert (rating.value, rating.scale, rating.annotator) == (4.0, (1.0, 10.0), "judge:wildbench")
    assert rating.reason == "Strengths: Short.\n\nWeaknesses: Wrong."


def test_the_answers_of_one_session_join() -> None:
    other = RECORD | {"model_test": "b/model", "model_output": "", "score": "1"}
    elsewhere = RECORD | {"session_id": "c000"}
    joined, alone = merge([group for record in (RECORD, other, elsewhere) for group in FORMAT.parse(record, SOURCE)])
    assert [response.content for response in joined.responses] == ["Five.", ""]
    assert [(rating.response, rating.value) for rating in joined.ratings] == [(0, 4.0), (1, 1.0)]
    assert len(alone.responses) == 1


@pytest.mark.parametrize("score", ["0", "11", "", None, "8/10"])
def test_a_score_off_the_scale_names_its_field(score: object) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {"score": score}, SOURCE))
    assert caught.value.field == "score"
