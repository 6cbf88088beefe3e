"""LAMP: an edit with changes that are placed where their words stand once, and a score before and after."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Change, Source
from attune.data.formats.lamp_edits import FORMAT

SOURCE = Source(file="edits.jsonl", line=1, format="lamp_edits")
RECORD: dict[str, Any] = {
    "annotator": "W3",
    "instruction": "Describe the sea.",
    "source": "gpt4o",
    "type": "Fantasy",
    "preedit": "The sea was the sea, blue.",
    "postedit": "The water was grey, blue.",
    "id": "W3_2",
    "url": "somewhere",
    "creativity_scores": ["4", "6"],
    "fine_grained_edits": [
        {"categorization": "Cliche", "originalText": "the sea", "editedText": "grey"},
        {"categorization": "Punctuation", "originalText": "sea", "editedText": "water"},
        {"categorization": "Cliche", "originalText": "green", "editedText": ""},
    ],
}


def test_a_record_is_an_edit_with_placed_changes() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    before, after = group.responses
    assert FORMAT.recognises(RECORD)
    assert (before.content, before.generator, before.edit) == ("The sea was the sea, blue.", "gpt4o", None)
    assert (after.content, after.generator) == ("The water was grey, blue.", "W3")
    assert after.edit is not None
    assert (after.edit.of, after.edit.annotator) == (0, "W3")
    # "the sea" stands once, at character 12; "sea" twice and "green" never, so neither has a place
    assert after.edit.changes == (
        Change(original="the sea", replacement="grey", start=12, type="Cliche"),
        Change(original="sea", replacement="water", start=None, type="Punctuation"),
        Change(original="green", replacement="", start=None, type="Cliche"),
    )
    assert {field: reason.split("text ")[1][0] for field, reason in group.meta["doubts"].items()} == {
        "fine_grained_edits[1].originalText": "2",
        "fine_grained_edits[2].originalText": "0",
    }
    assert group.meta["type"] == "Fantasy"
    assert after.meta == {"id": "W3_2", "url": "somewhere"}


def test_scores_are_ratings_of_both_texts_by_the_writer() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    said = [(rating.response, rating.value, rating.scale, rating.aspect, rating.annotator) for rating in group.ratings]
    assert said == [(0, 4.0, (1.0, 10.0), "creativity", "W3"), (1, 6.0, (1.0, 10.0), "creativity", "W3")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"creativity_scores": ["4"]}, "creativity_scores"),
        ({"creativity_scores": ["4", "11"]}, "creativity_scores[1].score"),
        ({"creativity_scores": ["four", "5"]}, "creativity_scores[0].score"),
        ({"fine_grained_edits": [{"originalText": "sea"}]}, "fine_grained_edits[0].editedText"),
        ({"preedit": ""}, "preedit"),
    ],
)
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
