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
from attune.policies.references import CachedReference, Reference, adapter_as_loaded, adapter_off, as_it_is, cached, frozen_copy
from attune.training.layout import lay_out
from attune.training.source import Item
from attune.training.update import Frozen


class Sealed:
    """Log-probabilities that were computed before; rows that were not (another prompt's response) are computed anew each time, and not kept.

    Args:
        known: holds the rows that were computed.
        seen: the content keys of those rows.
        reference: computes the others; None: there are no others.
    """

    def __init__(self, known: CachedReference, seen: frozenset[str], reference: Reference | None) -> None:
        self._known, self._seen, self._reference = known, seen, reference

    def logp(self, encoded: Encoded) -> Tensor:
        """Returns [N,T] nats."""
        if self._seen.issuperset(encoded.keys):
            return self._known.logp(encoded)
        assert self._reference is not None, "a row whose reference was not computed before training"
        return self._reference.logp(encoded)


def frozen_columns(
    policy: CausalPolicy,
    items: Sequence[Item],
    *,
    reference: ReferenceConfig,
    need_reference: bool,
    track_start: bool,
    other_rows: bool,
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
        other_rows: whether training reads rows beyond each response under its own prompt; only they need the reference's weights later.
        groups_per_pass: groups computed at once.
        folder: where numbers are kept if `reference.cache` is "disk".
        on_progress: called with groups done and groups in all.
    """
    start = _start(policy)
    ref = start if reference.source == "auto" else reference.source
    wanted = {name: source for name, source, needed in (("ref_logp", ref, need_reference), ("start_logp", start, track_start)) if needed}
    folder = folder if reference.cache == "disk" else None
    made: dict[str, Frozen] = {}
    for source in dict.fromkeys(wanted.values()):
        later = _MAKE[source](policy) if reference.cache == "off" or other_rows else None
        made[source] = later if reference.cache == "off" and later else _filled(policy, source, later, items, groups_per_pass, folder, on_progress)
    return {name: made[source] for name, source in wanted.items()}


_MAKE: dict[str, Callable[[CausalPolicy], Reference]] = {"initial": frozen_copy, "adapter_off": adapter_off, "adapter_loaded": adapter_as_loaded}


def _start(policy: CausalPolicy) -> str:
    """Returns the cheapest reference that equals the policy's start: a new adapter changes nothing, a continued one must be remembered."""
    if not has_adapter(policy.module):
        return "initial"
    return "adapter_loaded" if policy.continued else "adapter_off"


def _filled(
    policy: CausalPolicy,
    source: str,
    later: Reference | None,
    items: Sequence[Item],
    groups_per_pass: int,
    folder: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> Sealed:
    """Computes the rows of all items with the policy as it stands: at its start it is its own reference, and no second model is held."""
    reference = as_it_is(policy) if source == "initial" else _MAKE[source](policy)
    known = cached(reference, folder=folder, identity=None if folder else "this run")  # hashing all weights is for files that outlive the run
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
    return Sealed(known, frozenset(seen), later)
