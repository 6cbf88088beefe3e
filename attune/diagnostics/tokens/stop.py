"""The token that ends a response: a model learns to stop only where it is there and supervised."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding, Row
from attune.diagnostics.finding import Finding, graded, many, worst


def stop(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "stop": rows whose last token is a supervised stop token, rows that lack it, and rows that lost it to the length limit."""
    rows = encoding.trained
    if not rows:
        return ()
    lost = [row for row in rows if row.tokens.response_cut]
    lacking = [row for row in rows if not row.tokens.response_cut and not _stops(encoding, row)]
    num = len(rows) - len(lost) - len(lacking)
    return (
        Finding(
            name="stop",
            level=worst(("error" if lacking else "ok", graded(len(lost), len(rows), error_above=0.5))),
            headline=f"of {many(len(rows), 'row')}, {num:,} end with a supervised stop token, {len(lacking):,} lack it, {len(lost):,} lost it to the limit",
            numbers={"rows": len(rows), "stop": num, "lacking": len(lacking), "cut_off": len(lost), "stop_ids": list(encoding.template.stop_ids)},
            records=(*(row.ref("no supervised stop token at the end") for row in lacking), *(row.ref("the stop token is cut off") for row in lost)),
            mend="a model does not learn to stop from these rows: raise the response limit or leave them out" if lacking or lost else "",
        ),
    )


def _stops(encoding: Encoding, row: Row) -> bool:
    """Says whether a row ends with a supervised stop token; a tool call may end with a control token of its own."""
    ids, supervised = row.tokens.response_ids, row.tokens.supervised
    return bool(ids) and supervised[-1] and (ids[-1] in encoding.template.stop_ids or ids[-1] in encoding.template.tokenizer.added_tokens_decoder)
