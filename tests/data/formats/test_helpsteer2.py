"""HelpSteer2: five attributes from 0 to 4, single annotations without names."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Rating, Source
from attune.data.formats.helpsteer2 import ATTRIBUTES, FORMAT

HERE = Source(file="f", line=1)
RECORD: dict[str, Any] = {"prompt": "c#", "response": "A language.", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 0, "verbosity": 1}


def test_each_attribute_is_a_rating() -> None:
    assert FORMAT.recognises(RECORD)
    (group,) = FORMAT.parse(RECORD, HERE)
    assert group.ratings == tuple(
        Rating(response=0, value=value, scale=(0.0, 4.0), aspect=aspect) for aspect, value in zip(ATTRIBUTES, (3, 4, 4, 0, 1), strict=True)
    )


def test_lists_keep_every_annotation_and_a_hole_is_no_zero() -> None:
    (group,) = FORMAT.parse({**RECORD, "helpfulness": [3, None, 0], "verbosity": None}, HERE)
    assert [rating.value for rating in group.ratings if rating.aspect == "helpfulness"] == [3, 0]
    assert not [rating for rating in group.ratings if rating.aspect == "verbosity"]


@pytest.mark.parametrize(
    ("change", "field"), [({"coherence": 5}, "coherence"), ({"coherence": [1, "2"]}, "coherence[1]"), ({"response": 1}, "response"), ({"prompt": ""}, "prompt")]
)
def test_the_field_at_fault_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse({**RECORD, **change}, HERE))
    assert caught.value.field == field
