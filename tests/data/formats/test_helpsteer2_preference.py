"""HelpSteer2-Preference: the sign says which is better, the size by how much."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.helpsteer2_preference import FORMAT

HERE = Source(file="f", line=1)
RECORD: dict[str, Any] = {
    "split": "train",
    "prompt": "p",
    "response_1": "a",
    "response_2": "b",
    "preference_strength": 1,
    "preference_statement": "@Response 2 is better.",
    "preference_elaboration": "It is complete.",
    "all_preferences_unprocessed": [{"strength": -100, "justification": "neither"}],
}


@pytest.mark.parametrize(("strength", "tiers"), [(-3, ((0,), (1,))), (0, ((0, 1),)), (2, ((1,), (0,)))])
def test_strength_and_direction(strength: int, tiers: tuple[tuple[int, ...], ...]) -> None:
    assert FORMAT.recognises(RECORD)
    (group,) = FORMAT.parse({**RECORD, "preference_strength": strength}, HERE)
    (verdict,) = group.verdicts
    assert (verdict.tiers, verdict.strength, verdict.presented) == (tiers, abs(strength), (0, 1))
    assert verdict.reason == "@Response 2 is better. It is complete."
    assert group.meta == {"split": "train", "all_preferences_unprocessed": [{"strength": -100, "justification": "neither"}]}


@pytest.mark.parametrize("strength", [4, -100, "1", None, True])
def test_a_strength_off_the_scale_is_refused(strength: Any) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse({**RECORD, "preference_strength": strength}, HERE))
    assert caught.value.field == "preference_strength"
