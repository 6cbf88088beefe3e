"""The token that begins a text: exactly one, or none where the model knows none."""

from __future__ import annotations

from itertools import takewhile

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, many


def start(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "start": rows that do not begin with exactly one start token (none where the model writes none), or whose response begins with another.

    Only beginnings count: where one token both begins and ends texts (GPT-2), it may stand between turns.
    """
    rows = encoding.trained
    if not rows:
        return ()
    bos = encoding.template.tokenizer.bos_token_id
    counts = [sum(1 for _ in takewhile(lambda token: token == bos, row.tokens.prompt_ids)) for row in rows]
    expected = int(bos is not None and (bos in encoding.template.start_ids or any(counts)))
    wrong = [(row, count) for row, count in zip(rows, counts, strict=True) if count != expected]
    again = [row for row in rows if len(row.tokens.response_ids) > 1 and row.tokens.response_ids[0] == bos]
    said = "exactly one start token" if expected else "no start token, which this model does without"
    return (
        Finding(
            name="start",
            level="error" if wrong or again else "ok",
            headline=f"{len(rows) - len(wrong):,} of {many(len(rows), 'row')} begin with {said}; {many(len(again), 'response')} begin with another one",
            numbers={"rows": len(rows), "expected": expected, "wrong": len(wrong), "in_response": len(again)},
            records=(
                *(row.ref(f"begins with {many(count, 'start token')}") for row, count in wrong),
                *(row.ref("the response begins with a start token") for row in again),
            ),
            mend="take the start token out of the texts: it is written once, by the template" if wrong or again else "",
        ),
    )
