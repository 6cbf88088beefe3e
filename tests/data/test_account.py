"""The account: its equations, its line, and when it stops a reading."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attune.core.errors import RecordError, TooManyBadRecords
from attune.data.account import ENOUGH, Account


def account(records: int, bad: int) -> Account:
    made = Account(records=records, used=records - bad, parsed=records - bad, groups=records - bad)
    for line in range(1, bad + 1):
        made.reject(RecordError("no text", field="chosen", value=line, allowed="text"), file="f.jsonl", line=line, id=None if line % 2 else f"r{line}")
    return made


def test_a_record_or_a_group_that_is_lost_is_noticed() -> None:
    whole = account(10, 3)
    assert whole.balanced
    assert not replace(whole, records=11).balanced
    assert not replace(whole, used=6).balanced
    assert not replace(whole, groups=6).balanced
    assert replace(whole, groups=5, merged=2).balanced


@pytest.mark.parametrize(
    ("records", "bad", "max_bad", "end", "stops"),
    [
        (ENOUGH, ENOUGH // 10, 0.1, False, False),
        (ENOUGH, ENOUGH // 10 + 1, 0.1, False, True),
        (ENOUGH - 1, ENOUGH - 1, 0.1, False, False),
        (10, 1, 0.1, True, False),
        (10, 2, 0.1, True, True),
        (10, 10, 1.0, True, True),
        (10, 0, 0.0, True, False),
    ],
)
def test_when_a_reading_is_stopped(records: int, bad: int, max_bad: float, end: bool, stops: bool) -> None:
    if not stops:
        account(records, bad).check(max_bad, end=end)
        return
    with pytest.raises(TooManyBadRecords) as caught:
        account(records, bad).check(max_bad, end=end)
    assert str(caught.value).startswith(f"{bad} of {records} records cannot be used, {max_bad:g} of them may be bad: f.jsonl:1: chosen: no text")
    assert (f"and {bad - 3} more" in str(caught.value)) == (bad > 3)


def test_what_is_said_fits_in_a_line() -> None:
    made = account(5, 2)
    assert str(made.rejects[1]) == "f.jsonl:2: chosen: no text (got 2); allowed: text [id r2]"
    assert made.summary() == "5 records: 3 used, 2 rejected, 0 doubtful; 3 groups, 0 of them joined to others, 3 left"
