"""Splits groups by prompt, never by row: what is asked stands on one side only, whoever answered and whichever file it came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

from attune.core.errors import ConfigError
from attune.core.record import MAIN, Group, Prompt, text_of
from attune.data.codec import digest

_SPAN = 2**64  # equally likely places a prompt may fall on


def split(groups: Iterable[Group], shares: Mapping[str, float], *, seed: int = 0) -> dict[str, list[Group]]:
    """Splits groups into sides by a hash of their prompt.

    Stable: where a group goes depends on its prompt, the shares and the seed, on nothing else; new data moves no old group. The sizes
    are therefore near the shares, not equal to them.

    Args:
        groups: any groups.
        shares: name of a side -> its share, positive, together 1.
        seed: another seed, another split.

    Returns:
        The groups of each side, in their order; every group is on exactly one side.

    Raises:
        ConfigError: shares that are not positive or do not add up to 1.
    """
    check(shares)
    sides: dict[str, list[Group]] = {name: [] for name in shares}
    for group in groups:
        sides[side(group, shares, seed=seed)].append(group)
    return sides


def side(group: Group, shares: Mapping[str, float], *, seed: int = 0) -> str:
    """Returns the side on which `split` puts a group, for streams. The shares must have passed `check`."""
    hashed = hashlib.sha256(f"{seed}:{asked(group)}".encode()).digest()
    place = int.from_bytes(hashed[:8], "big") / _SPAN
    total = 0.0
    for name, share in shares.items():
        total += share
        if place < total:
            return name
    return list(shares)[-1]  # the shares add up to a hair below 1


def check(shares: Mapping[str, float]) -> None:
    """Raises ConfigError unless all shares are positive and they add up to 1."""
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ConfigError("a share is positive", field=f"shares.{name}", value=share, allowed="above 0, at most 1")
    total = math.fsum(shares.values())
    if not math.isclose(total, 1.0, abs_tol=1e-9):
        raise ConfigError("shares add up to 1", field="shares", value=total, allowed="1")


def asked(group: Group) -> str:
    """Returns 64 hex digits by which a group is put on a side: its main prompt's words and images (all prompts' where none is main); without a prompt, its id.

    Words only: the same question as bare text and as a turn falls on one side.
    """
    if not group.contexts:
        return digest(["id", group.id])
    if MAIN in group.contexts:
        return digest(_words(group.contexts[MAIN]))
    return digest([_words(group.contexts[name]) for name in sorted(group.contexts)])


def _words(prompt: Prompt) -> list[object]:
    return [" ".join(text_of(prompt.content).split()), prompt.images]
