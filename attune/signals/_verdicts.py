"""Verdicts of one criterion, and the account of the others."""

from __future__ import annotations

from collections import Counter

from attune.core.record import Group, Verdict


def verdicts(group: Group, criterion: str | None) -> tuple[list[Verdict], Counter[str]]:
    """Returns the verdicts on a criterion and what was left out; None: every verdict, whatever "better" meant in it."""
    dropped: Counter[str] = Counter()
    found = [verdict for verdict in group.verdicts if criterion is None or verdict.criterion == criterion]
    dropped["verdict: on another criterion"] = len(group.verdicts) - len(found)
    dropped["group: no verdict"] = int(not group.verdicts)
    return found, +dropped
