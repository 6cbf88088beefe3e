"""Tokens that the tokenizer does not know: text that the model cannot read or write."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding, Row
from attune.diagnostics.finding import Finding, Level, many

TOO_MANY = 0.001
"""Share of unknown tokens above which a model is likely the wrong one for the text."""


def unknown(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "unknown": the share of tokens that are the tokenizer's unknown token; nothing where it has none (it then knows every byte)."""
    unk = encoding.template.tokenizer.unk_token_id
    rows = encoding.trained
    # some tokenizers name their end-of-text token as the unknown one and never use it as such
    if unk is None or unk in encoding.template.stop_ids or unk == encoding.template.tokenizer.bos_token_id or not rows:
        return ()
    hit = [(row, num) for row in rows if (num := _count(row, unk))]
    tokens = sum(len(row.tokens.prompt_ids) + len(row.tokens.response_ids) for row in rows)
    total = sum(num for _, num in hit)
    level: Level = "ok" if not hit else "warn" if total > TOO_MANY * tokens else "note"
    return (
        Finding(
            name="unknown",
            level=level,
            headline=f"{total:,} of {many(tokens, 'token')} ({100 * total / tokens:.2f} %) in {many(len(hit), 'row')} are unknown to the tokenizer",
            numbers={"tokens": tokens, "unknown": total, "rows": len(hit)},
            records=tuple(row.ref(f"{num} unknown tokens") for row, num in hit),
            mend="the model cannot tell these characters apart: clean the texts or take another model" if hit else "",
        ),
    )


def _count(row: Row, unk: int) -> int:
    return row.tokens.prompt_ids.count(unk) + row.tokens.response_ids.count(unk)
