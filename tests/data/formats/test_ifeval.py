"""IFEval: a prompt without responses, its constraints kept in meta."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.ifeval import FORMAT

SOURCE = Source(file="prompts.jsonl", line=1, format="ifeval")
RECORD: dict[str, Any] = {"key": 1537, "prompt": "Add a P.P.S.", "instruction_id_list": ["content:postscript"], "kwargs": [{"postscript_marker": "P.P.S"}]}


def test_a_record_is_a_prompt_with_its_constraints() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert (group.id, group.responses, group.untrainable) == ("ifeval-1537", (), None)
    assert group.prompt.content == ({"role": "user", "content": "Add a P.P.S."},)
    assert group.meta == {"key": 1537, "instruction_id_list": ["content:postscript"], "kwargs": [{"postscript_marker": "P.P.S"}]}


@pytest.mark.parametrize(("change", "field"), [({"kwargs": []}, "kwargs"), ({"kwargs": [{}, {}]}, "kwargs"), ({"prompt": ""}, "prompt"), ({"key": "a"}, "key")])
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
