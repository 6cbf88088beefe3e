"""Where every record went: used, or rejected with its reason. Nothing is lost between a file and its groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from attune.core.errors import AttuneError, TooManyBadRecords

ENOUGH = 200
"""Records after which a share of bad ones means something; earlier, only the end of the data decides."""

_SHOWN = 3  # bad records that an error message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to say about one record."""

    file: str
    line: int | None
    # 1-based; the row number in Parquet
    field: str | None
    # dotted name; None: the record as a whole
    reason: str
    id: str | None = None
    # the source's own name of the record; None: it has none, or it could not be read

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        said = f"{self.field}: {self.reason}" if self.field else self.reason
        return f"{where}: {said}" + (f" [id {self.id}]" if self.id else "")


@dataclass(slots=True, kw_only=True)
class Account:
    """Counts what was read. Two equations hold when a reading has come to its end (`balanced`):

    records = used + rejected           parsed = groups + merged
    """

    records: int = 0
    # lines that are not blank, rows, array elements
    used: int = 0
    # records that gave at least one group
    parsed: int = 0
    # groups that those records gave
    groups: int = 0
    # groups handed out
    merged: int = 0
    # groups that joined an earlier group of the same prompt
    rejects: list[Finding] = field(default_factory=list)
    # records that could not be used, each with its reason
    doubts: list[Finding] = field(default_factory=list)
    # records that were used although something about them is odd
    formats: dict[str, str] = field(default_factory=dict)
    # file -> name of the format it was read as

    @property
    def balanced(self) -> bool:
        """Whether every record and every group is accounted for."""
        return self.records == self.used + len(self.rejects) and self.parsed == self.groups + self.merged

    def reject(self, error: AttuneError, *, file: str, line: int | None, id: str | None = None) -> None:
        """Lists a record that cannot be used, with what `error` says about it."""
        self.rejects.append(finding(error, file=file, line=line, id=id))

    def doubt(self, reason: str, *, file: str, line: int | None, field: str | None, id: str | None = None) -> None:
        """Lists something odd about a record that is used all the same."""
        self.doubts.append(Finding(file=file, line=line, field=field, reason=reason, id=id))

    def check(self, max_bad: float, *, end: bool = False) -> None:
        """Stops a reading with too many bad records.

        Args:
            max_bad: the largest share of rejected records allowed, in [0, 1].
            end: whether all records have been seen; before, nothing is said about fewer than ENOUGH.

        Raises:
            TooManyBadRecords: naming the first bad ones; at the end also when no record at all could be used.
        """
        bad = len(self.rejects)
        if not bad or (not end and self.records < ENOUGH):
            return
        if bad > max_bad * self.records or (end and not self.used):
            first = "; ".join(map(str, self.rejects[:_SHOWN]))
            more = f"; and {bad - _SHOWN} more" if bad > _SHOWN else ""
            raise TooManyBadRecords(f"{bad} of {self.records} records cannot be used, {max_bad:.4g} of them may be bad: {first}{more}")

    def summary(self) -> str:
        """Returns one line with all counts."""
        said = f"{self.records} records: {self.used} used, {len(self.rejects)} rejected, {len(self.doubts)} doubtful"
        return f"{said}; {self.parsed} groups, {self.merged} of them joined to others, {self.groups} left"


def finding(error: AttuneError, *, file: str, line: int | None, id: str | None = None) -> Finding:
    """Returns what `error` says about a record, with the record's place."""
    bare = AttuneError(error.message, value=error.value, allowed=error.allowed, mend=error.mend)
    return Finding(file=file, line=line, field=error.field, reason=str(bare), id=id)
