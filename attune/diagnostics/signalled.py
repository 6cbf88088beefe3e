"""What a signal makes of the groups: the pairs, labels, scores and demonstrations that would be trained on, and what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attune.core.record import Group
from attune.core.signal import Signal
from attune.diagnostics.finding import Finding, many, ref


def signalled(groups: Sequence[Group], signal: Callable[[Group], Signal]) -> tuple[Finding, ...]:
    """Returns "signal": how much the signal keeps of all groups, what it drops and why, with the groups it drops from.

    Args:
        groups: any groups.
        signal: group -> what an objective would be given of it.
    """
    dropped: Counter[str] = Counter()
    kept = {"pairs": 0, "ties": 0, "labels": 0, "scores": 0, "demos": 0}
    records, silent = [], 0
    for group in groups:
        said = signal(group)
        kept["pairs"] += len(said.pairs)
        kept["ties"] += sum(pair.tie for pair in said.pairs)
        kept["labels"] += len(said.labels)
        kept["scores"] += len(said.scores)
        kept["demos"] += len(said.demos)
        dropped.update(said.dropped)
        silent += not said.responses
        if said.dropped:
            records.append(ref(group, "; ".join(f"{num} {reason}" for reason, num in said.dropped.items())))
    nothing = silent == len(groups)
    what = ", ".join(many(num, name.removesuffix("s")) for name, num in kept.items() if num) or "nothing"
    why = "; ".join(f"{num:,} {reason}" for reason, num in dropped.most_common(3))
    return (
        Finding(
            name="signal",
            level="error" if nothing else "note" if dropped else "ok",
            headline=f"the signal makes {what} out of {many(len(groups), 'group')} and drops {dropped.total():,}" + (f" ({why})" if why else ""),
            numbers={**kept, "groups": len(groups), "silent": silent, "dropped": dict(dropped)},
            records=tuple(records),
            mend="this signal finds nothing to train on in this feedback: choose another one, `fitting` says what fits" if nothing else "",
        ),
    )
