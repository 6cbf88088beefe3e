"""Whether the longer response wins, in characters."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.record import Group
from attune.diagnostics.finding import Finding
from attune.diagnostics.judgments import decided, judgments, texts_known
from attune.diagnostics.lengths import length_difference


def length(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "length": preferred less dispreferred in characters, and the accuracy of "the longer one wins", with intervals by prompt."""
    clear = [judgment for judgment in decided(judgments(groups)) if texts_known(judgment)]
    if not clear:
        return ()
    return (length_difference(clear, lambda judgment, index: len(judgment.group.responses[index].text), name="length", unit="characters"),)
