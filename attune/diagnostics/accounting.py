"""Where every record went: none may be lost between a file and its groups."""

from __future__ import annotations

from attune.data.account import Account
from attune.data.account import Finding as Record
from attune.diagnostics.finding import Finding, Ref, graded, many


def accounting(account: Account) -> tuple[Finding, ...]:
    """Returns what became of the records: read = used + rejected, and groups parsed = kept + merged.

    Args:
        account: of a reading that has come to its end.

    Returns:
        "accounting" (error where a record is lost or too many are rejected) and, where the reader noted any, "doubts".
    """
    unaccounted = abs(account.records - account.used - len(account.rejects)) + abs(account.parsed - account.groups - account.merged)
    rejected = len(account.rejects)
    formats = ", ".join(sorted(set(account.formats.values())))
    numbers = {
        "records": account.records,
        "used": account.used,
        "rejected": rejected,
        "doubtful": len(account.doubts),
        "groups": account.groups,
        "merged": account.merged,
        "unaccounted": unaccounted,
        "formats": dict(account.formats),
    }
    found = Finding(
        name="accounting",
        level="error" if unaccounted else graded(rejected, account.records),
        headline=f"{many(account.records, 'record')} ({formats}): {account.used:,} used, {rejected:,} rejected, {unaccounted:,} unaccounted for; "
        f"{many(account.groups, 'group')} after joining {account.merged:,} to others of the same prompt",
        numbers=numbers,
        records=tuple(map(_ref, account.rejects)),
        mend="records were lost: report this as a bug of the reader" if unaccounted else "mend or remove the rejected records" if rejected else "",
    )
    if not account.doubts:
        return (found,)
    doubts = Finding(
        name="doubts",
        level="note",
        headline=f"{many(len(account.doubts), 'oddity', 'oddities')} noted by the reader in records that are used all the same",
        numbers={"doubts": len(account.doubts)},
        records=tuple(map(_ref, account.doubts)),
        mend="read through them",
    )
    return found, doubts


def _ref(record: Record) -> Ref:
    return Ref(id=record.id, file=record.file, line=record.line, detail=f"{record.field}: {record.reason}" if record.field else record.reason)
