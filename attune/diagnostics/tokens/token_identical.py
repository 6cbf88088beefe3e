"""Pairs that are the same to the model although their texts may differ."""

from __future__ import annotations

from attune.diagnostics.encoding import Encoding
from attune.diagnostics.finding import Finding, graded, many, ref


def token_identical(encoding: Encoding) -> tuple[Finding, ...]:
    """Returns "token_identical": decided pairs whose two rows hold the same tokens, as cut; pairs of equal texts are among them."""
    if not encoding.pairs:
        return ()
    same = [
        judgment
        for judgment, preferred, dispreferred in encoding.pairs
        if (preferred.tokens.prompt_ids, preferred.tokens.response_ids) == (dispreferred.tokens.prompt_ids, dispreferred.tokens.response_ids)
    ]
    return (
        Finding(
            name="token_identical",
            level=graded(len(same), len(encoding.pairs)),
            headline=f"{len(same):,} of {many(len(encoding.pairs), 'decided pair')} have the same tokens on both sides",
            numbers={"pairs": len(encoding.pairs), "identical": len(same)},
            records=tuple(ref(judgment.group, f"responses {judgment.first} and {judgment.second}") for judgment in same),
            mend="drop them, or raise the limit that cuts off where they differ: they have no gradient" if same else "",
        ),
    )
