"""Reads feedback from files into Groups: opens them, tells their format, accounts for every record, joins equal prompts.

for group in read("feedback.jsonl"): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from attune.core.errors import AttuneError, FormatError, RecordError
from attune.core.record import Group, Source
from attune.data import discovery
from attune.data.account import Account
from attune.data.codec import lone_surrogate
from attune.data.files import Row, find, rows
from attune.data.format import Format, Record
from attune.data.group import doubts, merge, unique

_FIRST = 32  # decodable records by which a format is told
_PATIENCE = 1000  # rows in which to find them


def read(
    path: str | Path | Sequence[str | Path], *, format: str | None = None, max_bad: float = 0.05, group_equal: bool = True, id_prefix: str = ""
) -> Reading:
    """Opens feedback for reading; the format of the first file is told (or confirmed) at once.

    Args:
        path: a file (.jsonl, .json, .parquet, also .gz), a folder of shards, a pattern, several of these, or a data set on a hub ("hub:org/name@split").
        format: name of the format; None: it is detected, for each file.
        max_bad: the largest share of records, in [0, 1], that may be unusable; a reading of which nothing can be used always fails.
        group_equal: whether groups with equal prompts are joined (within a file, which is then held in memory; `prepare` joins across files).
            False reads in constant memory, one group a record, and ids may repeat.
        id_prefix: put before every group's id, so that the ids of several readings stay apart.

    Returns:
        A Reading: iterate it for Groups; its `account` says where every record went.

    Raises:
        FormatError: nothing there, an unknown or a wrong format, or a result table (numbers without texts), which `read_table` reads.
        TooManyBadRecords: while iterating, or at once where no record can be decoded.
    """
    if not 0 <= max_bad <= 1:
        raise FormatError("it is a share", field="max_bad", value=max_bad, allowed="0 to 1")
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    files = tuple(file for one in paths for file in find(one))
    if not files:
        raise FormatError("no file was named", field="path", value=path, allowed="at least one")
    return Reading(files, format=format, max_bad=max_bad, group_equal=group_equal, id_prefix=id_prefix)


class Reading:
    """Groups from files. Every iteration starts anew, with a new `account`.

    Attributes:
        files: what is read, in order.
        format: the format of the first file that holds a record.
        account: counts and rejected records of the latest iteration; complete when it has come to its end.
    """

    def __init__(self, files: tuple[str, ...], *, format: str | None, max_bad: float, group_equal: bool, id_prefix: str) -> None:
        self.files, self.account = files, Account()
        self._named = None if format is None else discovery.named(format)
        self._max_bad, self._group_equal, self._id_prefix = max_bad, group_equal, id_prefix
        opened = next(filter(None, (self._open(file)[0] for file in files)), None)
        if opened is None:
            raise FormatError("there is no record", file=", ".join(files), allowed="at least one")
        self.format = opened

    def __iter__(self) -> Iterator[Group]:
        self.account = Account()
        for file in self.files:
            found = self._parse(file, self.account)
            for group in self._joined(found) if self._group_equal else found:
                self.account.groups += 1
                yield group
        self.account.check(self._max_bad, end=True)

    def _open(self, file: str) -> tuple[Format | None, Iterator[Row]]:
        """Tells a file's format by its first rows; returns it (None: the file holds nothing) with all rows."""
        stream = rows(file)
        seen: list[Row] = []
        records: list[Record] = []
        for row in stream:
            seen.append(row)
            if row.record is not None:
                records.append(row.record)
            if len(records) == _FIRST or len(seen) == _PATIENCE:
                break
        if not records:
            account = Account(records=len(seen))
            for row in seen:
                _reject(account, row, row.error)
            account.check(0.0, end=True)
            return None, iter(())
        format = discovery.confirm(self._named, records, file=file) if self._named else discovery.detect(records, file=file)
        if format.table:
            mend = "evals read it; read_table yields its rows"
            raise FormatError(f"{format.name} is a result table: it holds numbers without texts, so there are no groups in it", file=file, mend=mend)
        return format, chain(seen, stream)

    def _parse(self, file: str, account: Account) -> Iterator[Group]:
        format, stream = self._open(file)
        if format is None:
            return
        account.formats[file] = format.name
        used = account.used
        for row in stream:
            account.records += 1
            groups, error = parsed(format, row)
            if error is not None:
                _reject(account, row, error)
                account.check(self._max_bad)
                continue
            account.used += 1
            account.parsed += len(groups)
            for group in groups:
                for field, reason in doubts(group):
                    account.doubt(reason, file=row.file, line=row.line, field=field, id=group.id)
                yield replace(group, id=self._id_prefix + group.id) if self._id_prefix else group
        if account.used == used:
            account.check(0.0, end=True)

    def _joined(self, groups: Iterable[Group]) -> Iterator[Group]:
        found = list(groups)
        merged = merge(found)
        self.account.merged += len(found) - len(merged)
        return iter(unique(merged, self.account))


def read_table(path: str | Path) -> Iterator[Record]:
    """Yields the rows of a result table (or of any file), as they stand.

    Raises:
        FormatError: a row that cannot be decoded: a table with a hole gives wrong totals.
    """
    for file in find(path):
        for row in rows(file):
            if row.record is None:
                raise FormatError(str(row.error), file=row.file, line=row.line)
            yield row.record


def parsed(format: Format, row: Row) -> tuple[Sequence[Group], AttuneError | None]:
    """Parses a row whole or not at all: returns its groups, or why there are none."""
    if row.record is None:
        return (), row.error
    try:
        groups = tuple(format.parse(row.record, Source(file=row.file, line=row.line, format=format.name)))
        for group in groups:
            if lone_surrogate(group.id):
                raise RecordError("text holds a lone surrogate, which is no character", field="id", value=group.id)
    except RecordError as error:
        return (), error
    return groups, None if groups else RecordError("the record holds no feedback")


def _reject(account: Account, row: Row, error: AttuneError | None) -> None:
    assert error is not None, "a row without a record says why"
    account.reject(error, file=row.file, line=row.line, id=row.id)
