"""Verdicts on the same two texts that say the opposite: by one annotator a mistake, by several a disagreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Ref, graded, many, ref
from attune.diagnostics.judgments import NOBODY, Judgment, Kind, asked, identities, judgments, kind

_VOICES: tuple[Kind, ...] = ("people", "judges")

Question = tuple[object, ...]
"""What was asked: prompt, user, criterion and the two texts; equal for the same question, whatever the texts' order."""


def contradictions(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "contradictions" (opposite decided verdicts of one annotator, or of nobody named), "disagreements_people" and "disagreements_judges".

    Counted in questions: a question is two texts under one prompt, user and criterion. A question asked once cannot be contradicted; it
    is in the denominator all the same, since it is trained on.
    """
    asked_of = _by_question(groups)
    if not asked_of:
        return ()
    against_self: list[Ref] = []
    unnamed = swapped = 0
    for said in asked_of.values():
        own = _own(said)
        if own:
            against_self.append(ref(said[0][0].group, "; ".join(text for text, _ in own.values())))
            unnamed += NOBODY in own
            swapped += any(turned for _, turned in own.values())
    found = [_contradictions(against_self, len(asked_of), unnamed, swapped), *(_disagreements(which, asked_of.values()) for which in _VOICES)]
    return tuple(finding for finding in found if finding is not None)


def _by_question(groups: Sequence[Group]) -> dict[Question, list[tuple[Judgment, int]]]:
    """Returns, a question, its judgments and whom each prefers (1, -1 or 0 for a tie), the texts always in the same order."""
    names = {id(group): (asked(group) or group.id, identities(group)) for group in groups if group.verdicts}
    found: dict[Question, list[tuple[Judgment, int]]] = {}
    for judgment in judgments(groups):
        prompt, texts = names[id(judgment.group)]
        first, second = texts[judgment.first], texts[judgment.second]
        if first == second:
            continue
        order = judgment.order if first < second else -judgment.order
        question = (prompt, judgment.group.user, judgment.criterion, min(first, second), max(first, second))
        found.setdefault(question, []).append((judgment, order))
    return found


def _own(said: list[tuple[Judgment, int]]) -> dict[str, tuple[str, bool]]:
    """Returns, for each annotator who said both things, what to say about it and whether the texts had changed places."""
    found = {}
    for name in dict.fromkeys(judgment.annotator for judgment, _ in said):
        one = next((judgment for judgment, order in said if judgment.annotator == name and order > 0), None)
        other = next((judgment for judgment, order in said if judgment.annotator == name and order < 0), None)
        if one is not None and other is not None:
            turned = _shown_first(one) is not None and {_shown_first(one), _shown_first(other)} == {one.first, one.second}
            found[name] = (f"{_pair(one)}: {name} said both" + (", shown in both orders" if turned else ""), turned)
    return found


def _shown_first(judgment: Judgment) -> int | None:
    return next((index for index in judgment.verdict.presented or () if index in (judgment.first, judgment.second)), None)


def _pair(judgment: Judgment) -> str:
    return f"responses {judgment.first} and {judgment.second}"


def _contradictions(records: list[Ref], num: int, unnamed: int, swapped: int) -> Finding:
    said = f"of {many(num, 'compared pair')}, {len(records):,} carry opposite verdicts of one annotator"
    if unnamed:
        said += f" ({unnamed:,} of them of nobody named)"
    if swapped:
        said += f" ({swapped:,} after the texts changed places)"
    return Finding(
        name="contradictions",
        level=graded(len(records), num),
        headline=said,
        numbers={"pairs": num, "contradictory": len(records), "unnamed": unnamed, "swapped": swapped},
        records=tuple(records),
        mend="ask again, drop them, or merge them into one soft label (signal `vote`): now one update undoes the other" if records else "",
    )


def _disagreements(which: Kind, questions: Iterable[list[tuple[Judgment, int]]]) -> Finding | None:
    num = 0
    records = []
    for said in questions:
        orders: dict[str, set[int]] = {}
        for judgment, order in said:
            if order and judgment.annotator != NOBODY and kind(judgment.annotator) == which:
                orders.setdefault(judgment.annotator, set()).add(order)
        # who said both speaks for neither
        votes = Counter(next(iter(order)) for order in orders.values() if len(order) == 1)
        num += votes.total() > 1
        if len(votes) > 1:
            records.append(ref(said[0][0].group, f"{_pair(said[0][0])}: {max(votes.values())} against {min(votes.values())}"))
    if not num:
        return None
    return Finding(
        name=f"disagreements_{which}",
        level="note" if records else "ok",
        headline=f"of {many(num, 'pair')} that several {which} decided, they disagree on {len(records):,}",
        numbers={"pairs": num, "disagreements": len(records)},
        records=tuple(records),
        mend="merge the verdicts of a pair into one soft label that keeps the disagreement (signal `vote`)" if records else "",
    )
