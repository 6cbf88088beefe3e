"""Whose feedback counts: people, judge models, programs and gold labels stand beside each other in one record."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from attune.core.record import Group
from attune.data.parts import GOLD, JUDGE, PROGRAM


def is_person(annotator: str | None) -> bool:
    """Returns whether an annotator's id is that of a person: not a judge model's, a program's or the gold label's; None is somebody unnamed."""
    return annotator is None or not (annotator.startswith(JUDGE) or annotator in (GOLD, PROGRAM))


def heard(group: Group, annotators: str | Collection[str]) -> tuple[Group, int]:
    """Returns the group with the verdicts and ratings of some annotators only, and how many of others were left out.

    Args:
        group: any group.
        annotators: "all", "people" (see is_person), or the ids of those who count.
    """
    if annotators == "all":
        return group, 0

    def counts(annotator: str | None) -> bool:
        return is_person(annotator) if annotators == "people" else annotator in annotators

    verdicts = tuple(verdict for verdict in group.verdicts if counts(verdict.annotator))
    ratings = tuple(rating for rating in group.ratings if counts(rating.annotator))
    left_out = len(group.verdicts) - len(verdicts) + len(group.ratings) - len(ratings)
    return replace(group, verdicts=verdicts, ratings=ratings), left_out
