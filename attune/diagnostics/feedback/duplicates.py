"""The same thing twice: prompts that stand in several groups, responses and verdicts that are repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Ref, many, ref
from attune.diagnostics.judgments import NOBODY, asked, identities

Key = TypeVar("Key")


def duplicates(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "duplicate_prompts" and "duplicate_verdicts".

    Prompts are equal when turns, tools and images are; users and criteria may differ. A verdict is repeated when the same annotator (or nobody named), for
    the same user and criterion, put the same texts into the same tiers: it then counts twice in training. Where nobody is named the
    two may be two people's, which is only noted.
    """
    prompts = [(key, ref(group)) for group in groups if (key := asked(group)) is not None]
    verdicts = [(key, place) for group in groups for key, place in _verdicts(group)]
    found = []
    if prompts:
        records = _repeated(prompts)
        found.append(
            Finding(
                name="duplicate_prompts",
                level="note" if records else "ok",
                headline=f"of {many(len(prompts), 'group')}, {len(records):,} repeat the prompt of an earlier one",
                numbers={"groups": len(prompts), "repeated": len(records)},
                records=records,
                mend="read the files together or run `attune data prepare`, so that equal prompts are on the same side of a split" if records else "",
            )
        )
    if verdicts:
        records = _repeated(verdicts)
        found.append(
            Finding(
                name="duplicate_verdicts",
                level="warn" if any(NOBODY not in record.detail for record in records) else "note" if records else "ok",
                headline=f"of {many(len(verdicts), 'verdict')}, {len(records):,} repeat an earlier one: same texts, same order, same annotator",
                numbers={"verdicts": len(verdicts), "repeated": len(records)},
                records=records,
                mend="keep one of each unless two people gave them, or merge them (signal `vote`): they weigh double" if records else "",
            )
        )
    return tuple(found)


def _repeated(items: Iterable[tuple[Key, Ref]]) -> tuple[Ref, ...]:
    """Returns the references whose key was seen before."""
    seen: set[Key] = set()
    again = []
    for key, place in items:
        if key in seen:
            again.append(place)
        seen.add(key)
    return tuple(again)


def _verdicts(group: Group) -> list[tuple[tuple[object, ...], Ref]]:
    found: list[tuple[tuple[object, ...], Ref]] = []
    names, prompt = identities(group) if group.verdicts else (), asked(group) or group.id
    for index, verdict in enumerate(group.verdicts):
        tiers = tuple(tuple(sorted(names[response] for response in tier)) for tier in verdict.tiers)
        shown = None if verdict.presented is None else tuple(names[response] for response in verdict.presented)
        # shown in another order, or on another criterion, it is another question
        key = (prompt, group.user, group.criterion, verdict.criterion, verdict.annotator, tiers, shown)
        found.append((key, ref(group, f"verdict {index} by {verdict.annotator or NOBODY}")))
    return found
