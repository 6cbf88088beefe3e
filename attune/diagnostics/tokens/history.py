"""Templates that write an earlier turn otherwise than they wrote it when it was the last."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, many


def history(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "history": whether the template rewrites earlier turns, and how many rows have an assistant's turn before the response."""
    rows = encoding.trained
    if not rows or not encoding.template.chat:
        return ()
    several = [row for row in rows if _answered_before(row.group.contexts[row.context].content)]
    rewrites = encoding.template.rewrites_history
    said = "the chat template rewrites earlier turns" if rewrites else "the chat template keeps earlier turns as they were"
    return (
        Finding(
            name="history",
            level="note" if rewrites else "ok",
            headline=f"{said}; {len(several):,} of {many(len(rows), 'row')} have an earlier turn of the assistant",
            numbers={"rewrites": rewrites, "rows": len(rows), "with_history": len(several)},
            mend="conversations cannot be trained as one row with this template: give each reply as a response of its own" if rewrites else "",
        ),
    )


def _answered_before(content: object) -> bool:
    return isinstance(content, tuple) and any(turn["role"] == "assistant" for turn in content)
