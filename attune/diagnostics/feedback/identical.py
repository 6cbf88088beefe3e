"""Comparisons of a response with itself: equal texts of which one is said to be better."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, graded, many, ref
from attune.diagnostics.judgments import identities, judgments, texts_known


def identical(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "identical": how many compared pairs hold the same content twice, decided ones and ties apart.

    Their loss is a constant (ln 2 for DPO) without a gradient, whatever the verdict says.
    """
    compared = [judgment for judgment in judgments(groups) if texts_known(judgment)]
    if not compared:
        return ()
    names = {id(group): identities(group) for group in groups}
    same = [judgment for judgment in compared if names[id(judgment.group)][judgment.first] == names[id(judgment.group)][judgment.second]]
    ties = sum(not judgment.order for judgment in same)
    level = graded(len(same) - ties, len(compared))
    return (
        Finding(
            name="identical",
            level="note" if level == "ok" and same else level,
            headline=f"of {many(len(compared), 'comparison')}, {len(same):,} are between equal texts ({ties:,} of them called a tie)",
            numbers={"comparisons": len(compared), "identical": len(same), "ties": ties},
            records=tuple(ref(judgment.group, f"responses {judgment.first} and {judgment.second} are equal") for judgment in same),
            mend="drop them: they teach nothing and hold the loss at its starting value" if same else "",
        ),
    )
