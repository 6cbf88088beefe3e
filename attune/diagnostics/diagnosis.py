"""What the doctor hands back: what to do in five lines, then the evidence, then the records; as text or as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from attune.diagnostics.finding import LEVELS, Finding, Ref, many
from attune.ops.intervals import Estimate, Result

NUM_LINES = 5
"""Lines of the verdict, the first one included."""

_TABLE = 12  # estimates of one kind that are printed; more are in the JSON output


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Result):
    """Findings, the worst first."""

    title: str
    # what was looked at
    findings: tuple[Finding, ...]
    silent: tuple[str, ...] = ()
    # probes that had nothing to look at

    @property
    def exit_code(self) -> int:
        """1 where training would be wrong, else 0."""
        return int(any(finding.level == "error" for finding in self.findings))

    def of(self, name: str) -> Finding:
        """Returns the finding called `name`. Raises KeyError where no probe had anything to say under it."""
        return {finding.name: finding for finding in self.findings}[name]

    @property
    def verdict(self) -> tuple[str, ...]:
        """What to do, in at most NUM_LINES lines: the conclusion, then the mends of the worst findings."""
        named = {finding.name: finding for finding in self.findings}
        counts = {level: sum(finding.level == level for finding in self.findings) for level in LEVELS}
        trainable, signal = named.get("trainable"), named.get("signal")
        # a run that names a signal of its own needs no advice on the default one, unless its own makes nothing
        unfit = {finding.name for finding in self.findings if finding.name == "fitting" and finding.mend and (signal is None or signal.level == "error")}
        if "table" in named:
            conclusion = "This is a result table: evaluations read it, there is nothing in it to train on."
        elif counts["error"]:
            conclusion = f"Do not train on this yet: {many(counts['error'], 'finding')} would make training wrong."
        elif trainable is not None and trainable.level == "warn":
            conclusion = "This can be analysed, not trained on."
        elif counts["warn"]:
            conclusion = f"This can be trained on, but {many(counts['warn'], 'finding')} may spoil it."
        else:
            conclusion = f"Nothing here speaks against training on this{', with a signal that fits' if unfit else ''}."
        advised = [finding for finding in self.findings if finding.level in ("warn", "error") or finding.name in unfit]
        advice = [f"{finding.name}: {finding.mend}" for finding in advised if finding.mend]
        room = NUM_LINES - 1
        if len(advice) > room:
            advice = [*advice[: room - 1], f"and {len(advice) - room + 1} more, marked below"]
        return conclusion, *advice

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON types: all findings with all their records; `account` is null where records were not read from files."""
        account = next((finding.to_dict()["numbers"] for finding in self.findings if finding.name == "accounting"), None)
        return {
            "title": self.title,
            "exit_code": self.exit_code,
            "verdict": list(self.verdict),
            "account": account,
            "findings": [finding.to_dict() for finding in self.findings],
            "silent": list(self.silent),
        }

    def render(self, *, width: int = 120, num_records: int = 5) -> str:
        """Returns the text for a terminal.

        Args:
            width: columns.
            num_records: records printed a finding; how many more there are is said.
        """
        indent = 9 + max((len(finding.name) for finding in self.findings), default=0)
        lines = [f"doctor: {self.title}", "", *_verdict(self.verdict, width), "", "Evidence"]
        for finding in self.findings:
            lines += _evidence(finding, indent, width)
        if self.silent:
            lines += ["", *_wrapped("Nothing to see for: ", ", ".join(self.silent), width)]
        concerned = [finding for finding in self.findings if finding.records]
        if concerned and num_records:
            lines += ["", "Records"]
            for finding in concerned:
                lines += _records(finding, num_records)
        return "\n".join(lines) + "\n"


def _verdict(verdict: tuple[str, ...], width: int) -> Iterator[str]:
    yield from _wrapped("", verdict[0], width)
    for line in verdict[1:]:
        yield from _wrapped("  - ", line, width)


def _evidence(finding: Finding, indent: int, width: int) -> Iterator[str]:
    yield from _wrapped(f"  {finding.level:<6}{finding.name} ".ljust(indent), finding.headline, width)
    if finding.level == "ok":
        return
    for name, value in finding.numbers.items():
        estimates = {key: item for key, item in value.items() if isinstance(item, Estimate)} if isinstance(value, Mapping) else {}
        if 1 < len(estimates) <= _TABLE:
            yield from (_printable(f"{'':{indent}}{name} {key}: {item}") for key, item in estimates.items())
    if finding.mend:
        yield from _wrapped(f"{'':{indent}}-> ", finding.mend, width)


def _records(finding: Finding, num_records: int) -> Iterator[str]:
    yield f"  {finding.name}: {many(len(finding.records), 'record')}"
    yield from (f"    {_printable(_record(record))}" for record in finding.records[:num_records])
    if len(finding.records) > num_records:
        yield f"    ... and {len(finding.records) - num_records:,} more (all of them in the JSON output)"


def _record(record: Ref) -> str:
    place = record.place if record.file is None else PurePath(record.file).name + (f":{record.line}" if record.line is not None else "")
    joined = f" (+ {len(record.joined)} joined)" if record.joined else ""
    return "  ".join(part for part in (place + joined, record.id, record.detail) if part)


def _printable(text: str) -> str:
    """Returns text for one line of a terminal: control characters, which could move its cursor, are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _wrapped(lead: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        _printable(text), max(width, math.ceil(len(lead) * 1.5)), initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False
    ) or [lead]
