"""TRL unpaired preference: a label is a thumb on the scale (0, 1)."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Prompt, Rating, Source
from attune.data.formats.trl_unpaired import FORMAT

HERE = Source(file="f", line=1)
TURN = {"role": "user", "content": "Why?"}


@pytest.mark.parametrize(("label", "value"), [(True, 1.0), (False, 0.0)])
@pytest.mark.parametrize(("prompt", "completion"), [("Why?", " So."), ([TURN], [{"role": "assistant", "content": " So."}])])
def test_label_and_both_forms(label: bool, value: float, prompt: Any, completion: Any) -> None:
    record = {"prompt": prompt, "completion": completion, "label": label, "image": "x.png"}
    assert FORMAT.recognises(record)
    (group,) = FORMAT.parse(record, HERE)
    assert group.ratings == (Rating(response=0, value=value, scale=(0.0, 1.0)),)
    assert group.prompt == Prompt(content="Why?" if isinstance(prompt, str) else (TURN,), images=("x.png",))
    assert [response.content for response in group.responses] == [" So."]


@pytest.mark.parametrize("label", [1, 0, "true", None])
def test_only_true_and_false_are_labels(label: Any) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse({"prompt": "p", "completion": "c", "label": label}, HERE))
    assert caught.value.field == "label"
