"""Length as a confounder: whether one response is shorter than, similar to or longer than another."""

from __future__ import annotations

from typing import Literal

from attune.core.errors import AttuneError

LengthBucket = Literal["shorter", "similar", "longer"]

BUCKETS: tuple[LengthBucket, ...] = ("shorter", "similar", "longer")

TOLERANCE = 0.1
"""Share of the longer one by which two lengths may differ and still be similar."""


def length_bucket(first: float, second: float, *, tolerance: float = TOLERANCE) -> LengthBucket:
    """Says how the first length compares with the second.

        similar where |first - second| <= tolerance * max(first, second)

    Args:
        first, second: lengths >= 0 in one unit (characters or tokens).
        tolerance: in [0, 1); 0: only equal lengths are similar.

    Raises:
        AttuneError: a negative length or a tolerance out of range.
    """
    if min(first, second) < 0:
        raise AttuneError("a length is not negative", field="length", value=(first, second), allowed="at least 0")
    if not 0 <= tolerance < 1:
        raise AttuneError("the tolerance is a share", field="tolerance", value=tolerance, allowed="0 to below 1")
    if abs(first - second) <= tolerance * max(first, second):
        return "similar"
    return "shorter" if first < second else "longer"
