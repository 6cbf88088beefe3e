"""Frozen columns: the reference's log-probabilities and those of the start, computed before training in one fixed order.

The order matters: numbers computed in another company differ in the last digit, and a resumed run must find the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from attune.config.recipe import ReferenceConfig
from attune.core.protocols import Encoded
from attune.policies.adapters import has_adapter
from attune.policies.causal import CausalPolicy
from attune.policies.references import CachedReference, Reference, adapter_as_loaded, adapter_off, cached, frozen_copy
from attune.training.layout import lay_out
from attune.training.source import Item
from attune.training.update import Frozen


class Sealed:
    """Log-probabilities that were computed before; rows that were not (another prompt's response) are computed anew each time, and not kept.

    Args:
        known: holds the rows that were computed.
        seen: the content keys of those rows.
        reference: computes the others.
    """

    def __init__(self, known: CachedReference, seen: frozenset[str], reference: Reference) -> None:
        self._known, self._seen, self._reference = known, seen, reference

    def logp(self, encoded: Encoded) -> Tensor:
        """Returns [N,T] nats."""
        source: Frozen = self._known if self._seen.issuperset(encoded.keys) else self._reference
        return source.logp(encoded)


def frozen_columns(
    policy: CausalPolicy,
    items: Sequence[Item],
    *,
    reference: ReferenceConfig,
    need_reference: bool,
    track_start: bool,
    continued: bool,
    groups_per_pass: int,
    folder: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Frozen]:
    """Returns where `ref_logp` and `start_logp` come from; call it before the first update, with the weights the run starts from.

    Args:
        policy: a language model, at its start.
        items: everything that will be trained or evaluated on.
        reference: which reference, and whether its numbers are kept.
        need_reference: whether an objective reads ref_logp.
        track_start: whether the change since the start is logged.
        continued: whether the policy's adapter was trained before; a new one changes nothing at the start.
        groups_per_pass: groups computed at once.
        folder: where numbers are kept if `reference.cache` is "disk".
        on_progress: called with groups done and groups in all.
    """
    start = _start(policy, continued)
    ref = start if reference.source == "auto" else reference.source
    wanted = {name: source for name, source, needed in (("ref_logp", ref, need_reference), ("start_logp", start, track_start)) if needed}
    made = {source: _made(policy, source, items, reference.cache, groups_per_pass, folder, on_progress) for source in dict.fromkeys(wanted.values())}
    return {name: made[source] for name, source in wanted.items()}


_MAKE: dict[str, Callable[[CausalPolicy], Reference]] = {"initial": frozen_copy, "adapter_off": adapter_off, "adapter_loaded": adapter_as_loaded}


def _start(policy: CausalPolicy, continued: bool) -> str:
    """Returns the cheapest reference that equals the policy's start."""
    if not has_adapter(policy.module):
        return "initial"
    return "adapter_loaded" if continued else "adapter_off"


def _made(
    policy: CausalPolicy,
    source: str,
    items: Sequence[Item],
    cache: str,
    groups_per_pass: int,
    folder: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> Frozen:
    reference = _MAKE[source](policy)
    if cache == "off":
        return reference
    known = cached(reference, folder=folder if cache == "disk" else None)
    groups = [item.group for item in items]
    seen: set[str] = set()
    for start in range(0, len(items), groups_per_pass):
        chunk = range(start, min(start + groups_per_pass, len(items)))
        encoded = policy.collate(groups, lay_out(items, chunk, roles=("main",), annotators={}).rows)
        known.logp(encoded)
        seen.update(encoded.keys)
        if on_progress is not None:
            on_progress(chunk.stop, len(items))
    known.flush()
    return Sealed(known, frozenset(seen), reference)
