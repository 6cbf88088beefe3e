"""PandaLM records: five verdicts with ties, an unreadable judge, withheld texts, a JSON boolean for a word."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.pandalm import FORMAT

SOURCE = Source(file="pairs.jsonl", line=4, format="pandalm")
RECORD: dict[str, Any] = {
    "idx": 7,
    "motivation_app": "Maths",
    "cmp_key": "bloom-7b_llama-7b",
    "instruction": "Is it true?",
    "input": "Two is even.",
    "response1": "It is.",
    "response2": "No.",
    "annotator1": 1,
    "annotator2": 0,
    "annotator3": 2,
    "gpt_result": "Tie",
    "gpt_reason": "Both answer.",
    "gpt_reference": "Yes.",
    "pandalm_result": 1,
    "pandalm_reason": "The first is right.",
    "pandalm_reference": "True.",
}


def test_a_record_is_a_pair_with_five_verdicts() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert group.id == "pandalm-7"
    assert group.prompt.content == ({"role": "user", "content": "Is it true?\n\nTwo is even."},)
    assert [(response.content, response.generator) for response in group.responses] == [("It is.", "bloom-7b"), ("No.", "llama-7b")]
    assert [(verdict.annotator, verdict.tiers, verdict.presented) for verdict in group.verdicts] == [
        ("annotator1", ((0,), (1,)), None),
        ("annotator2", ((0, 1),), None),
        ("annotator3", ((1,), (0,)), None),
        ("judge:gpt-3.5-turbo", ((0, 1),), (0, 1)),
        ("judge:pandalm-7b", ((0,), (1,)), (0, 1)),
    ]
    assert [verdict.reason for verdict in group.verdicts[3:]] == ["Both answer.", "The first is right."]
    assert group.meta == {
        "idx": 7,
        "motivation_app": "Maths",
        "cmp_key": "bloom-7b_llama-7b",
        "gpt_result": "Tie",
        "gpt_reference": "Yes.",
        "pandalm_reference": "True.",
    }


def test_an_unreadable_judge_gives_no_verdict_and_is_noted() -> None:
    (group,) = FORMAT.parse(RECORD | {"gpt_result": "garbage", "gpt_reason": ""}, SOURCE)
    assert [verdict.annotator for verdict in group.verdicts] == ["annotator1", "annotator2", "annotator3", "judge:pandalm-7b"]
    assert group.meta["gpt_result"] == "garbage"
    assert list(group.meta["doubts"]) == ["gpt_result"]


def test_withheld_texts_leave_labels_without_a_prompt() -> None:
    labels = {name: RECORD[name] for name in ("idx", "cmp_key", "annotator1", "annotator2", "annotator3", "gpt_result", "pandalm_result")}
    (group,) = FORMAT.parse(labels | {"text_withheld": True}, SOURCE)
    assert FORMAT.recognises(labels)
    assert [response.content for response in group.responses] == [None, None]
    assert len(group.verdicts) == 5
    assert group.untrainable == "the source holds no prompt"


def test_a_boolean_response_is_the_word() -> None:
    (group,) = FORMAT.parse(RECORD | {"response2": True}, SOURCE)
    assert group.responses[1].content == "True"
    assert list(group.meta["doubts"]) == ["response2"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("annotator2", 3), ("annotator2", True), ("annotator1", "1"), ("gpt_result", "0"), ("cmp_key", "llama-7b"), ("response1", 4), ("instruction", None)],
)
def test_a_wrong_value_names_its_field(field: str, value: object) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {field: value}, SOURCE))
    assert caught.value.field == field
