"""The switch between the short and the full form of a test, and the account of what was tried.

`make test` runs short forms; `make faults` passes `--full`. A test is written once: it asks the fixture `scale` for its numbers, marks
cases that only the full form tries as `slow`, and notes on the fixture `tally` what it tried and how often it was violated. With
`--full` the notes are printed at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
import torch

NOTE = "tally"

Scale = Callable[[int, int], int]
"""Takes a short and a full number and returns the one that holds."""

Tally = Callable[..., None]
"""Takes the fault's number, what was tried in words, how often, how often it was violated, and what else was measured: words, or a number with its
words, of which the largest is shown."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the full forms of tests that have a short one, and print what they tried")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def scale(full: bool) -> Scale:
    return lambda short, whole: whole if full else short


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    def note(fault: int, what: str, tried: int, violations: int, measured: str | tuple[float, str] = "") -> None:
        record_property(NOTE, json.dumps([fault, what, tried, violations, measured]))

    return note


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked `slow`, cases that only the full form tries, and what is marked `gpu` where there is none, or in CI."""
    absent = set() if config.getoption("--full") else {"slow"}
    if "CI" in os.environ or not torch.cuda.is_available():
        absent.add("gpu")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--full"):
        return
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, []) if report.when == "call"]
    notes = sorted(json.loads(str(value)) for report in reports for name, value in report.user_properties if name == NOTE)
    totals: dict[tuple[int, str], tuple[int, int]] = {}
    words: dict[tuple[int, str], list[str]] = {}
    largest: dict[tuple[int, str, str], float] = {}
    for fault, what, tried, violations, measured in notes:
        before = totals.get((fault, what), (0, 0))
        totals[fault, what] = (before[0] + tried, before[1] + violations)
        if isinstance(measured, list):
            number, label = measured
            largest[fault, what, label] = max(number, largest.get((fault, what, label), number))
        elif measured:
            words.setdefault((fault, what), []).append(measured)
    for (fault, what, label), number in largest.items():
        words.setdefault((fault, what), []).append(f"{number:.2g} {label}")
    terminalreporter.section("what was broken on purpose")
    terminalreporter.write_line("fault   tried  violations  what")
    for (fault, what), (tried, violations) in totals.items():
        said = "; ".join(words.get((fault, what), ()))
        terminalreporter.write_line(f"{fault:>5} {tried:>7} {violations:>11}  {what}" + (f" ({said})" if said else ""))
