"""TTCW: yes-or-no tests by experts become ratings with reasons."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.ttcw import FORMAT

SOURCE = Source(file="stories.jsonl", line=1, format="ttcw")
ANSWER = {
    "story_id": "7_GPT4",
    "story_idx": 7,
    "expert_idx": 9,
    "ttcw_idx": 1,
    "category": "Narrative Ending",
    "binary_verdict": "Yes",
    "explanation": "It ends.",
}
RECORD: dict[str, Any] = {
    "story_idx": 7,
    "story_id": "7_GPT4",
    "story_name": "Returns",
    "plot": "A visit.",
    "content": "She came.",
    "annotations": [ANSWER, ANSWER | {"expert_idx": 2, "ttcw_idx": 4, "category": "Narrative Pacing", "binary_verdict": "No", "explanation": ""}],
}


def test_a_story_is_rated_once_a_test_and_expert() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert group.prompt.content == ({"role": "user", "content": "A visit."},)
    (story,) = group.responses
    assert (story.content, story.generator, story.meta) == ("She came.", "GPT4", {"story_id": "7_GPT4"})
    assert [(rating.aspect, rating.value, rating.scale, rating.annotator, rating.reason) for rating in group.ratings] == [
        ("Narrative Ending", 1.0, (0.0, 1.0), "expert9", "It ends."),
        ("Narrative Pacing", 0.0, (0.0, 1.0), "expert2", None),
    ]
    assert group.meta == {"story_idx": 7, "story_name": "Returns"}


@pytest.mark.parametrize("change", [{"binary_verdict": "Maybe"}, {"binary_verdict": True}, {"expert_idx": "9"}, {"expert_idx": 1.5}, {"category": ""}])
def test_a_wrong_answer_names_its_field(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {"annotations": [ANSWER, ANSWER | change]}, SOURCE))
    assert caught.value.field == f"annotations[1].{next(iter(change))}"
