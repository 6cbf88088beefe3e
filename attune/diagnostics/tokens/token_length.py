"""How long prompts and responses are in tokens, and whether the longer response wins."""

from __future__ import annotations

import numpy as np

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding
from attune.diagnostics.judgments import Judgment
from attune.diagnostics.lengths import length_difference

PERCENTILES = (5, 50, 95, 100)
"""Which are told; the 100th is the longest."""


def token_length(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "token_length" (percentiles of both parts) and, where something was preferred, "token_difference" (both as trained)."""
    rows = encoding.trained
    if not rows:
        return ()
    lengths = {
        "prompt": [len(row.tokens.prompt_ids) for row in rows],
        "response": [len(row.tokens.response_ids) for row in rows],
    }
    numbers = {part: {str(p): int(np.percentile(values, p, method="inverted_cdf")) for p in PERCENTILES} for part, values in lengths.items()}
    said = "; ".join(f"{part}s: median {of['50']:,}, 95 % up to {of['95']:,}, longest {of['100']:,}" for part, of in numbers.items())
    total = sum(row.num_supervised for row in rows)
    found = [Finding(name="token_length", level="ok", headline=f"tokens of {said}; {total:,} supervised in all", numbers={**numbers, "supervised": total})]
    clear = [judgment for judgment, *_ in encoding.pairs]
    if clear:
        found.append(length_difference(clear, lambda judgment, index: _tokens(encoding, judgment, index), name="token_difference", unit="tokens"))
    return tuple(found)


def _tokens(encoding: Encoding, judgment: Judgment, index: int) -> int:
    return len(encoding.row_of[id(judgment.group), index].tokens.response_ids)
