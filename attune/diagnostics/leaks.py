"""Prompts that stand on both sides of a split: what is measured on them is memory, not learning."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.data.split import asked
from attune.diagnostics.finding import Finding, ref


def leaks(train: Sequence[Group], held_out: Sequence[Group]) -> list[Finding]:
    """Says how many held-out prompts are also trained on (the same words, whatever format or file they came in).

    Args:
        train: groups that are trained on.
        held_out: groups that are measured on; none: there is nothing to say.
    """
    if not held_out:
        return []
    known = {asked(group) for group in train}
    shared = tuple(ref(group) for group in held_out if asked(group) in known)
    return [
        Finding(
            name="leaks",
            level="warn" if shared else "ok",
            headline=f"{len(shared)} of {len(held_out)} held-out prompts are also trained on",
            numbers={"held_out": len(held_out), "shared": len(shared)},
            records=shared,
            mend="hold out other prompts: split by prompt, or leave data.eval out and set data.eval_share" if shared else "",
        )
    ]
