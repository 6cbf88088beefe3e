"""WildBench's comparison counts are a result table: recognised, and never groups."""

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.wildbench_pairwise import FORMAT

RECORD = {"model": "a", "reference": "b", "K": -1, "win_much": 1, "win": 2, "tie": 3, "lose": 4, "lose_much": 5, "total": 16, "reward": -0.3125}


def test_a_row_is_recognised_as_a_table_that_makes_no_groups() -> None:
    assert FORMAT.table
    assert FORMAT.recognises(RECORD)
    assert not FORMAT.recognises({name: value for name, value in RECORD.items() if name != "K"})
    with pytest.raises(RecordError, match="result table"):
        FORMAT.parse(RECORD, Source(file="counts.jsonl", line=1, format="wildbench_pairwise"))
