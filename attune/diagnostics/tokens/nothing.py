"""Rows without a token to learn from."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, graded, many, worst


def nothing(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "nothing": rows with no supervised token (a mean over none is not a number), and rows with the stop token alone."""
    rows = encoding.trained
    if not rows:
        return ()
    zero = [row for row in rows if not row.num_supervised]
    one = [row for row in rows if row.num_supervised == 1 and row.tokens.response_ids[-1] in encoding.template.stop_ids]
    return (
        Finding(
            name="nothing",
            level=worst(("error" if zero else "ok", graded(len(one), len(rows)))),
            headline=f"{len(zero):,} of {many(len(rows), 'row')} have no supervised token, {len(one):,} have the stop token only",
            numbers={"rows": len(rows), "zero": len(zero), "stop_only": len(one)},
            records=(*(row.ref("no supervised token") for row in zero), *(row.ref("nothing but the stop token") for row in one)),
            mend="leave these responses out" if zero or one else "",
        ),
    )
