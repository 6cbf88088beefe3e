"""What several source formats build alike: a question, a pair's verdict, judged steps, a grade; and the names of annotators who are no people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NoReturn

from attune.core.errors import RecordError
from attune.core.record import MAIN, Prompt, Source, Step
from attune.data import fields
from attune.data.group import DOUBTS

JUDGE = "judge:"
"""What stands before the name of a model that judges; "#1", "#2" ... behind it are its samples."""

GOLD = "gold"
"""The annotator of a label that the source holds to be true."""

PROGRAM = "program"
"""The annotator of what a program found by comparing with a known answer."""

PAIR = {0: ((0, 1),), 1: ((0,), (1,)), 2: ((1,), (0,))}
"""Tiers of a pair by who won: 0 neither, 1 the first response, 2 the second."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def asked(*parts: str) -> dict[str, Prompt]:
    """Returns contexts with one question: a user's turn that holds the non-empty parts, a blank line between them."""
    words = "\n\n".join(part for part in parts if part)
    return {MAIN: Prompt(content=({"role": "user", "content": words},) if words else "")}


def grade(record: Mapping[str, Any], name: str, lowest: float, highest: float) -> float:
    """Returns a number that may be spelt as text ("6"). Raises RecordError where it is absent, no number, or off the scale."""
    value = record.get(name)
    found = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else fields.number(record, name)
    if not lowest <= found <= highest:
        raise RecordError("a grade lies on its scale", field=name, value=value, allowed=f"{lowest:g} to {highest:g}")
    return found


def whole(record: Mapping[str, Any], name: str) -> int:
    """Returns a field that must be a whole number. Raises RecordError for anything else (true and false included)."""
    value = fields.number(record, name)
    if not isinstance(value, int):
        raise RecordError("it is a whole number", field=name, value=value, allowed="a whole number")
    return value


def solution(lines: Sequence[str], first_wrong: int | None, note: str | None = None) -> tuple[str, tuple[Step, ...]]:
    """Returns the text of a solution and its judged steps.

    Args:
        lines: the steps' texts in order; the solution is these joined by newlines, each newline closing the step before it.
        first_wrong: index (0-based) of the first wrong step; None: all are right.
        note: why that step is wrong.

    Returns:
        The text, and a step a line: label 1 before the first wrong one, 0 there, None (not judged) behind it.

    Raises:
        RecordError: there is no such step.
    """
    if first_wrong is not None and not 0 <= first_wrong < len(lines):
        raise RecordError("the first wrong step is one of the steps", value=first_wrong, allowed=f"0 to {len(lines) - 1}, counted from 0")
    text = "\n".join(lines)
    steps = []
    for index, end in enumerate(accumulate(len(line) + 1 for line in lines)):
        label = 1.0 if first_wrong is None or index < first_wrong else 0.0 if index == first_wrong else None
        steps.append(Step(end=min(end, len(text)), label=label, note=note if index == first_wrong else None))
    return text, tuple(steps)


def noted(doubts: Mapping[str, str]) -> dict[str, Any]:
    """Returns the part of a group's meta that says what is odd about its record, {field: reason}; nothing where nothing is."""
    return {DOUBTS: dict(doubts)} if doubts else {}


def no_groups(record: Mapping[str, Any], source: Source) -> NoReturn:
    """Raises RecordError: a result table holds numbers, so it makes no groups."""
    raise RecordError("a result table holds numbers and no texts", mend="evaluations read it; it makes no groups", value=source.format)


@contextmanager
def below(where: str) -> Iterator[None]:
    """Puts `where` before the field that a RecordError raised inside names."""
    try:
        yield
    except RecordError as error:
        error.field = where if error.field is None else f"{where}.{error.field}"
        raise
