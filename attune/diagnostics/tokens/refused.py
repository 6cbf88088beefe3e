"""Responses that training would leave out: withheld, too long, with images, with turns that make no row."""

from __future__ import annotations

from collections import Counter

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, Level, many


def refused(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "refused": how many responses can be trained on with this model, and why not the others."""
    if not encoding.rows:
        return ()
    out = [row for row in encoding.rows if row.refused]
    reasons = Counter(row.refused for row in out if row.refused)
    level: Level = "ok" if not out else "warn" if encoding.trained else "error"
    why = "; ".join(f"{num:,}: {reason}" for reason, num in reasons.most_common(3))
    return (
        Finding(
            name="refused",
            level=level,
            headline=f"{len(encoding.trained):,} of {many(len(encoding.rows), 'response')} can be trained on with this model" + (f" ({why})" if why else ""),
            numbers={"rows": len(encoding.rows), "trained": len(encoding.trained), "reasons": dict(reasons)},
            records=tuple(row.ref(row.refused or "") for row in out),
            mend="these responses are left out of training" if out else "",
        ),
    )
