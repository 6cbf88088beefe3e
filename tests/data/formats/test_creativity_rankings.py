"""creativity_eval rankings: a full ranking of three in the order shown."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.creativity_rankings import FORMAT

SOURCE = Source(file="rankings.jsonl", line=1, format="creativity_rankings")
RECORD: dict[str, Any] = {
    "annotator": "A07",
    "batch": "batch2",
    "instruction": "Describe a dinner.",
    "responses": ["Soup.", "Bread.", "Figs."],
    "mapping": {"Response 1": "AI-generated", "Response 2": "Human-edited", "Response 3": "AI-edited"},
    "instruction_id": 21,
    "id": "A02_batch1_4",
    "rank_1": "Response 3",
    "rank_2": "Response 1",
    "rank_3": "Response 2",
}


def test_a_record_is_a_ranking_in_the_order_shown() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert group.id == "creativity-A02_batch1_4"
    assert [(response.content, response.generator) for response in group.responses] == [
        ("Soup.", "AI-generated"),
        ("Bread.", "Human-edited"),
        ("Figs.", "AI-edited"),
    ]
    (verdict,) = group.verdicts
    assert (verdict.tiers, verdict.presented, verdict.annotator) == (((2,), (0,), (1,)), (0, 1, 2), "A07")
    assert group.meta == {"batch": "batch2", "instruction_id": 21}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rank_2": "Response 3"}, "rank_1, rank_2, rank_3"),
        ({"rank_3": "Response 4"}, "rank_3"),
        ({"responses": ["Soup.", "Bread.", "Figs.", "Tea."], "mapping": {**RECORD["mapping"], "Response 4": "?"}}, "rank_1, rank_2, rank_3"),
        ({"mapping": {"Response 1": "AI-generated"}}, "mapping.Response 2"),
        ({"responses": ["Soup.", 2, "Figs."]}, "responses[1]"),
    ],
)
def test_a_wrong_ranking_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
