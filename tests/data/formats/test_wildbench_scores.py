"""WildBench scores are a result table: recognised, and never groups."""

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.wildbench_scores import FORMAT

RECORD = {"model": "a-model", "session_id": "ae00", "score": "3", "output_len": 291}


def test_a_row_is_recognised_as_a_table_that_makes_no_groups() -> None:
    assert FORMAT.table
    assert FORMAT.recognises(RECORD)
    assert not FORMAT.recognises({name: value for name, value in RECORD.items() if name != "output_len"})
    with pytest.raises(RecordError, match="result table"):
        FORMAT.parse(RECORD, Source(file="scores.jsonl", line=1, format="wildbench_scores"))
