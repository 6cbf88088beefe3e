"""How often annotators call two responses equal, and which annotators do."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Level, many, percent, ref, resamples
from attune.diagnostics.judgments import Judgment, judgments
from attune.ops.intervals import Estimate, share_estimate

TOO_MANY = 0.5
"""Share of ties above which little is left to learn from."""


def ties(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "ties": their share of all comparisons (interval by prompt), the same by annotator, and how often both were called bad."""
    compared = judgments(groups)
    if not compared:
        return ()
    tied = [judgment for judgment in compared if not judgment.order]
    share = _share(compared)
    by_annotator = {
        name: _share([judgment for judgment in compared if judgment.annotator == name]) for name in sorted({judgment.annotator for judgment in compared})
    }
    both_bad = sum(verdict.both_bad for group in groups for verdict in group.verdicts)
    said = f"{len(tied):,} of {many(len(compared), 'comparison')} are ties"
    if tied:
        said += f": {percent(share)}"
    if both_bad:
        said += f"; {many(both_bad, 'verdict')} called everything bad"
    level: Level = "error" if len(tied) == len(compared) else "warn" if share.value > TOO_MANY else "note" if tied else "ok"
    mend = "say what becomes of ties: a loss that models them (Rao-Kupper, Davidson), a target of one half, or dropped by name"
    return (
        Finding(
            name="ties",
            level=level,
            headline=said,
            numbers={"comparisons": len(compared), "ties": len(tied), "both_bad": both_bad, "share": share, "by_annotator": by_annotator},
            records=tuple(ref(judgment.group, f"responses {judgment.first} and {judgment.second}: a tie by {judgment.annotator}") for judgment in tied),
            mend="nothing was preferred to anything: there is nothing to learn from these verdicts" if level == "error" else mend if tied else "",
        ),
    )


def _share(compared: Sequence[Judgment]) -> Estimate:
    clusters = [id(judgment.group) for judgment in compared]
    return share_estimate([not judgment.order for judgment in compared], clusters=clusters, num_resamples=resamples(len(set(clusters))))
