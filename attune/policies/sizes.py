"""What rows take of one pass, from their lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

from attune.core.protocols import Size
from attune.policies.packing import Layout, segments
from attune.policies.templates import Tokens


def size_of(rows: Sequence[Tokens], layout: Layout) -> Size:
    """Returns what a pass over tokenised rows takes.

    In the shared layout what rows begin with alike counts once; in the plain one each row counts as many tokens as the longest. A token reads
    itself and all tokens before it of its own row.

    Args:
        rows: at least one, as CausalPolicy.tokens gives them.
        layout: how they will be laid out.
    """
    supervised = sum(map(sum, (row.supervised for row in rows)))
    longest = max(len(row.prompt_ids) + len(row.response_ids) for row in rows)
    if layout == "plain":
        reads = sum(_reads(0, len(row.prompt_ids) + len(row.response_ids)) for row in rows)
        return Size(tokens=len(rows) * longest, supervised=supervised, longest=longest, rows=len(rows), reads=reads, padded=True)
    computed = segments(rows)
    tokens, reads = sum(stop - start for start, stop in computed), sum(_reads(start, stop - start) for start, stop in computed)
    return Size(tokens=tokens, supervised=supervised, longest=longest, rows=len(rows), reads=reads)


def _reads(before: int, num: int) -> int:
    """Returns how many pairs of tokens `num` tokens behind `before` others make: the i-th of them reads before + i."""
    return num * before + num * (num + 1) // 2
