"""QA feedback: passages in the prompt, six comparisons, spans on the first answer, and its correction."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source, Span
from attune.data.formats.qa_feedback import FORMAT

SOURCE = Source(file="qa.jsonl", line=1, format="qa_feedback")
ERROR = {"error type": "Irrelevant", "start": 4, "end": 7, "explanation": ""}
RECORD: dict[str, Any] = {
    "question": "What colour is the sky?",
    "passages": [["Sky", "The sky is blue.", "It is high."], ["Sea", "The sea is green."]],
    "gold": "Blue.",
    "prediction 1": "It, red, is up.",
    "prediction 2": "Blue.",
    "prediction 3": "Green.",
    "prediction 4": "",
    "feedback": {
        "errors": [ERROR, ERROR | {"error type": "Wrong-Grounding", "start": 0, "end": 2, "explanation": "see passage 1"}],
        "missing-info": [{"error type": "Missing-Answer", "passage_id": 1, "sentence_id": [1]}],
        "corrected-prediction": "It is blue.",
    },
    "preference": [2, 1, 1, 1, 0, 2],
}


def test_the_prompt_holds_numbered_passages_and_the_question() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    shown = "Passage 1: Sky\nThe sky is blue. It is high.\n\nPassage 2: Sea\nThe sea is green.\n\nQuestion: What colour is the sky?"
    assert group.prompt.content == ({"role": "user", "content": shown},)
    assert group.meta == {"passages": RECORD["passages"], "gold": "Blue.", "missing-info": RECORD["feedback"]["missing-info"]}


def test_six_pairs_are_six_verdicts() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    # pairs 12 13 14 23 24 34, said 2 1 1 1 0 2
    assert [verdict.tiers for verdict in group.verdicts] == [((1,), (0,)), ((0,), (2,)), ((0,), (3,)), ((1,), (2,)), ((1, 3),), ((3,), (2,))]


def test_spans_mark_the_first_answer_and_its_correction_is_an_edit() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    first, *others = group.responses
    assert first.spans == (Span(start=4, end=7, type="Irrelevant"), Span(start=0, end=2, type="Wrong-Grounding", note="see passage 1"))
    assert [first.text[span.start : span.end] for span in first.spans] == ["red", "It"]
    assert [response.spans for response in others] == [None] * 4
    assert others[-1].content == "It is blue."
    assert [response.edit.of if response.edit else None for response in group.responses] == [None, None, None, None, 0]


def test_no_correction_is_no_response_and_no_errors_are_an_empty_list() -> None:
    (group,) = FORMAT.parse(RECORD | {"feedback": {"errors": [], "missing-info": [], "corrected-prediction": ""}}, SOURCE)
    assert len(group.responses) == 4
    assert group.responses[0].spans == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"preference": [2, 1, 1, 1, 0]}, "preference"),
        ({"preference": [2, 1, 1, 1, 0, 3]}, "preference[5].winner"),
        ({"feedback": RECORD["feedback"] | {"errors": [ERROR | {"end": 16}]}}, "feedback.errors[0].start, end"),
        ({"feedback": RECORD["feedback"] | {"errors": [ERROR | {"start": "4"}]}}, "feedback.errors[0].start"),
        ({"feedback": {"errors": []}}, "feedback.corrected-prediction"),
        ({"passages": [["Sky"], []]}, "passages[1].sentences"),
        ({"prediction 3": None}, "prediction 3"),
    ],
)
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
