from __future__ import annotations

import math

import pytest

from attune.report.words import between, clean, counted, finite, listed, measured, moment, number, percent, plain


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.68437, "0.6844"),
        (0.05, "0.05000"),
        (-3.25, "−3.250"),
        (12345.678, "12\u202f346"),
        (12345, "12\u202f345"),
        (0, "0"),
        (-0.0, "0"),
        (1e-5, "1e−5"),
        (2.5e9, "2.5e9"),
        (math.nan, "not a number"),
        (-math.inf, "−infinite"),
        (None, "—"),
        (True, "—"),
        ("3", "—"),
    ],
)
def test_number(value: object, said: str) -> None:
    assert number(value) == said


def test_missing_is_never_zero() -> None:
    assert percent(None) == number(None) == measured(None, "nats") == "—"
    assert finite(None) is finite(True) is finite("1") is finite(math.nan) is finite(10**400) is None
    assert finite(0) == 0.0


def test_shares_and_units() -> None:
    assert percent(0.6844) == "68.4\u202f%"
    assert percent(-0.0125, 2) == "−1.25\u202f%"
    assert measured(0.5, "nats") == "0.5000 nats"
    assert measured(0.5, "nats", share=True) == "50.0\u202f%"


@pytest.mark.parametrize(
    ("started", "ended", "said"),
    [
        ("2026-11-20T14:58:40+00:00", "2026-11-20T15:02:53+00:00", "4 min 13 s"),
        ("2026-11-20T14:00:00+00:00", "2026-11-20T16:00:59+01:00", "1 h"),
        ("2026-11-20T14:00:00+00:00", "2026-11-22T15:30:00+00:00", "2 d 1 h"),
        ("2026-11-20T14:00:00+00:00", "2026-11-20T14:00:00+00:00", "0 s"),
        ("2026-11-20T14:00:00+00:00", "2026-11-20T13:00:00+00:00", None),
        ("2026-11-20T14:00:00+00:00", "2026-11-20T15:00:00", None),
        ("yesterday", "2026-11-20T15:00:00", None),
        (None, None, None),
    ],
)
def test_between(started: object, ended: object, said: str | None) -> None:
    assert between(started, ended) == said


def test_moment() -> None:
    assert moment("2026-11-20T14:58:40+00:00") == "2026-11-20 14:58 UTC"
    assert moment("2026-11-20T14:58:40+02:00") == "2026-11-20 14:58 +0200"
    assert moment(None) == "—"


def test_plain_writes_values_as_a_reader_would() -> None:
    assert plain({"beta": 0.1, "steps": [1, 2.5], "on": True, "none": None}) == "beta 0.1, steps 1, 2.5, on yes, none —"
    assert plain(32.0) == "32"
    assert plain(120) == "120"


def test_counts_and_lists_agree_with_their_nouns() -> None:
    assert [counted(1, "pair"), counted(2, "pair"), counted(0, "entry", "entries")] == ["1 pair", "2 pairs", "0 entries"]
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_clean_shows_what_would_not_be_seen() -> None:
    assert clean("a\x00b\x1b[1m\x7f") == "a␀b␛[1m␡"
    assert clean("\u202etxt\ud800") == "[U+202E]txt[U+D800]"
    assert clean("tab\tnew\nline") == "tab\tnew\nline"
    assert clean(3) == 3
