"""What the length limits take away, on which side of a pair."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding, Row
from attune.diagnostics.finding import WRONG, Finding, many


def truncation(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "truncation": rows left out for their length, rows whose prompt lost its beginning or whose response lost its end, by side of a pair.

    A limit that hits one side more than the other changes what is compared. Rows are counted once; a row that one verdict prefers and another disprefers is
    on both sides.
    """
    rows = [row for row in encoding.rows if row.whole is not None]
    if not rows:
        return ()
    sides = {"preferred": {id(row) for _, row, _ in encoding.clear}, "dispreferred": {id(row) for _, _, row in encoding.clear}}
    affected = {
        "left_out": [row for row in rows if row.cut is None],
        "prompt_cut": [row for row in rows if row.cut is not None and row.cut.prompt_cut],
        "response_cut": [row for row in rows if row.cut is not None and row.cut.response_cut],
    }
    by_side = {side: {name: sum(id(row) in members for row in hit) for name, hit in affected.items()} for side, members in sides.items()}
    num = len({id(row) for hit in affected.values() for row in hit})
    left_out, prompt_cut, response_cut = (len(hit) for hit in affected.values())
    said = f"of {many(len(rows), 'row')}, {left_out:,} are left out for their length, "
    said += f"{prompt_cut:,} lose the beginning of the prompt, {response_cut:,} the end of the response"
    if num and encoding.clear:
        said += " (" + "; ".join(f"{side}: {sum(counts.values()):,}" for side, counts in by_side.items()) + ")"
    model = encoding.model
    return (
        Finding(
            name="truncation",
            level="ok" if not num else "warn" if num > WRONG * len(rows) else "note",
            headline=said,
            numbers={
                "rows": len(rows),
                **{name: len(hit) for name, hit in affected.items()},
                "by_side": by_side,
                "overlong": model.overlong,
                "max_prompt_tokens": model.max_prompt_tokens,
                "max_response_tokens": model.max_response_tokens,
                "max_positions": model.max_positions,
            },
            records=tuple(row.ref(_lost(row, name)) for name, hit in affected.items() for row in hit),
            mend="raise the limits, or leave out both sides of these pairs" if num else "",
        ),
    )


def _lost(row: Row, how: str) -> str:
    if row.cut is None or row.whole is None:
        return row.refused or ""
    if how == "prompt_cut":
        return f"{row.cut.prompt_cut} of {len(row.whole.prompt_ids)} tokens of the prompt are cut off"
    return f"{row.cut.response_cut} of {len(row.whole.response_ids)} tokens of the response are cut off"
