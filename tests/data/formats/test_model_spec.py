"""The model spec's examples: good over OK over bad, thumbs for the two ends, an unlabelled answer left unrated."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.model_spec import FORMAT

SOURCE = Source(file="spec.jsonl", line=1, format="model_spec")


def candidate(label: str | None, content: str, comment: str = "") -> dict[str, Any]:
    """One answer of an example."""
    return {"label": label, "comment": comment, "content": content}


RECORD: dict[str, Any] = {
    "section": "Be clear",
    "title": "an example",
    "prompt": [{"role": "developer", "attrs": "", "content": "Be a bot."}, {"role": "assistant", "attrs": 'recipient="browser"', "content": "Hi!"}],
    "candidates": [
        candidate("BAD", "No.", "curt"),
        candidate("GOOD", "Hello."),
        candidate(None, "Hm."),
        candidate("OK", "Yes?", "vague"),
        candidate("GOOD", "Good day."),
    ],
}


def test_the_labels_rank_the_answers() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert [response.content for response in group.responses] == ["No.", "Hello.", "Hm.", "Yes?", "Good day."]
    assert [(verdict.tiers, verdict.annotator) for verdict in group.verdicts] == [(((1, 4), (3,), (0,)), "gold")]
    assert [(rating.response, rating.value, rating.reason) for rating in group.ratings] == [(0, 0.0, "curt"), (1, 1.0, None), (4, 1.0, None)]
    assert [response.meta for response in group.responses[2:4]] == [{}, {"label": "OK", "comment": "vague"}]
    assert group.meta == {"section": "Be clear", "title": "an example"}


def test_turns_keep_their_roles_and_say_nothing_empty() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert group.prompt.content == (
        {"role": "developer", "content": "Be a bot."},
        {"role": "assistant", "attrs": 'recipient="browser"', "content": "Hi!"},
    )


def test_one_label_compares_nothing() -> None:
    (group,) = FORMAT.parse(RECORD | {"candidates": [candidate("GOOD", "Hello."), candidate("GOOD", "Hi.")]}, SOURCE)
    assert group.verdicts == ()
    assert [rating.value for rating in group.ratings] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"candidates": [candidate("FINE", "Hello.")]}, "candidates[0].label"),
        ({"candidates": [{"label": "GOOD"}]}, "candidates[0].content"),
        ({"candidates": []}, "candidates"),
        ({"prompt": [{"role": "narrator", "content": "Once"}]}, "prompt[0].role"),
    ],
)
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
