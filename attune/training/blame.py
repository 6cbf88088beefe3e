"""Which groups a number that is not finite comes from. Letters: N rows, P pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from attune.core.batch import Batch, Loss, Term
from attune.core.errors import RunError

_SHOWN = 8


def not_finite(loss: Tensor, batch: Batch, outputs: Mapping[str, Tensor], losses: Iterable[Loss], ids: Sequence[str]) -> RunError:
    """Returns the error that names the groups at fault: those with an output that is not finite; else those whose terms are not; else all.

    Args:
        loss: that is not finite.
        batch: rows and pairs behind it.
        outputs: what the policy computed for the rows.
        losses: unreduced.
        ids: of the batch's groups.
    """
    bad_N = torch.zeros(batch.get("mask").shape[0], dtype=torch.bool, device=batch.device)
    for name, output in outputs.items():
        bad_N |= _bad_rows(torch.where(batch.get("mask"), output, 0.0) if batch.axes(name) == "NT" else output)
    if not bad_N.any():
        for term in (term for one in losses for term in one.terms):
            bad_N |= _rows_of(term, batch)
    numbers = batch.get("group")[bad_N].unique().tolist() if bad_N.any() else range(len(ids))
    named = [ids[number] for number in numbers]
    shown = ", ".join(named[:_SHOWN]) + (" ..." if len(named) > _SHOWN else "")
    mend = f"look at the groups {shown}" if bad_N.any() else f"which of these groups it was cannot be told: {shown}"
    return RunError("the loss is not finite; no update was made", field="loss", value=float(loss.detach()), mend=mend)


def _rows_of(term: Term, batch: Batch) -> Tensor:
    """Returns [N] bool, the rows behind the parts of a term that are not finite, told by its shape: one part a row, or one a pair."""
    num_rows, bad_N = batch.get("mask").shape[0], torch.zeros(batch.get("mask").shape[0], dtype=torch.bool, device=batch.device)
    value = term.value.detach()
    if value.ndim == 0:
        return bad_N
    pairs_P2 = batch.get("pairs") if "pairs" in batch else torch.zeros(0, 2, dtype=torch.long, device=batch.device)
    by_pair = isinstance(term.count, str) and term.count.endswith("pairs")
    if value.shape[0] == num_rows and not (by_pair and value.shape[0] == pairs_P2.shape[0]):
        return _bad_rows(value)
    if value.shape[0] == pairs_P2.shape[0]:
        bad_N[pairs_P2[_bad_rows(value)].flatten()] = True
    return bad_N


def _bad_rows(value: Tensor) -> Tensor:
    return ~torch.isfinite(value.detach()).reshape(value.shape[0], -1).all(-1)
