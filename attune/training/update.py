"""The arithmetic of one update: rows -> outputs -> losses -> a gradient that is the same for every split into passes.

Objectives return sums and say what they are counted by; the counts are totalled over the whole update first, so each pass adds its exact
share. An objective that couples rows across passes takes two: outputs of all rows without gradient, dL/d(each output) on them
jointly, then the backward of those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from attune.core.batch import COLUMNS, COUNTS, Batch, Loss, Term, reduced
from attune.core.errors import RunError
from attune.core.protocols import Encoded, Policy
from attune.core.spec import Spec, State
from attune.policies.causal import evaluating
from attune.training.generators import generator_states, set_generator_states
from attune.training.layout import lay_out
from attune.training.monitor import monitor
from attune.training.source import Item

Sums = dict[str, tuple[float, float]]
"""Statistic -> (sum, count); these add up exactly over passes."""

_SHARE = math.inf
# the count of a statistic whose parts are shares of the whole: they are added, not averaged


class Frozen(Protocol):
    """Log-probabilities under a model that does not learn."""

    def logp(self, encoded: Encoded) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of the weighted sum, with its parameters."""

    name: str
    spec: Spec
    params: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def coupled(self) -> bool:
        """Whether its loss needs the outputs of the whole update."""
        return self.spec.coupling == "batch" or (self.spec.update_state is not None and self.spec.update_when == "before")


class Learner:
    """Computes losses and gradients of a policy under a weighted sum of objectives.

    Args:
        policy: what learns.
        objectives: with distinct names.
        frozen: column name -> where it comes from (ref_logp, start_logp ...).
        groups_per_pass: groups computed at once; None: all of an update.
        annotators: name -> number, for the column `annotator`.
    """

    def __init__(
        self,
        policy: Policy,
        objectives: Sequence[Objective],
        *,
        frozen: Mapping[str, Frozen] | None = None,
        groups_per_pass: int | None = None,
        annotators: Mapping[str, int] | None = None,
    ) -> None:
        self.policy, self.objectives, self.frozen = policy, tuple(objectives), dict(frozen or {})
        self.groups_per_pass, self.annotators = groups_per_pass, dict(annotators or {})
        self.roles = ("main", *sorted({role for objective in objectives for role in objective.spec.rows}))
        self.needs = {name for objective in objectives for name in objective.spec.needs}
        self.wants = frozenset(name for name in self.needs if name in COLUMNS and COLUMNS[name].made_by == "output")
        self.states: dict[str, State] = {o.name: o.spec.init_state() for o in objectives if o.spec.init_state is not None}

    def backward(self, items: Sequence[Item]) -> Sums:
        """Adds the gradient of the update's loss to the parameters' .grad and returns its statistics.

        Raises:
            RunError: the loss is not finite; the message names the groups. No gradient is left then.
        """
        parts = list(self._parts(items))
        counts = self._counts(parts)
        computed: Sums = {"computed_tokens": (float(sum(encoded.num_tokens for encoded, _ in parts)), _SHARE)}
        if len(parts) > 1 and any(objective.coupled for objective in self.objectives):
            return computed | self._two_pass(parts, counts, items)
        sums = computed
        for encoded, data in parts:
            outputs = self.policy.outputs(encoded, self.wants)
            loss, part = self._loss(data.with_columns(**outputs), counts, learn=True)
            self._require_finite(loss, items)
            torch.autograd.backward(loss)
            add(sums, part)
        return sums

    @torch.no_grad()
    def measure(self, items: Sequence[Item]) -> Sums:
        """Returns the same statistics without gradient and without moving any state."""
        whole = self.whole(items)
        return self._loss(whole, {name: float(whole.count(name)) for name in COUNTS}, learn=False)[1]

    @torch.no_grad()
    def whole(self, items: Sequence[Item]) -> Batch:
        """Returns one batch of all items with the policy's outputs, without gradient and without dropout; group b is the b-th item."""
        with evaluating(self.policy.module):
            return Batch.join([data.with_columns(**self.policy.outputs(encoded, self.wants)) for encoded, data in self._parts(items)])

    def after_step(self, sums: Sums) -> None:
        """Applies the update laws that run after the optimiser's step."""
        self._move("after", sums)

    def _two_pass(self, parts: list[tuple[Encoded, Batch]], counts: Mapping[str, float], items: Sequence[Item]) -> Sums:
        leaves: list[dict[str, Tensor]] = []
        drawn: list[list[Tensor]] = []  # where the generator stood, so that both passes drop the same units
        for encoded, _ in parts:
            drawn.append(generator_states())
            with torch.no_grad():
                outputs = self.policy.outputs(encoded, self.wants)
            leaves.append({name: output.requires_grad_() for name, output in outputs.items()})
        whole = Batch.join([data.with_columns(**leaf) for (_, data), leaf in zip(parts, leaves, strict=True)])
        loss, sums = self._loss(whole, counts, learn=True)
        self._require_finite(loss, items)
        torch.autograd.backward(loss)
        for (encoded, _), leaf, state in zip(parts, leaves, drawn, strict=True):
            set_generator_states(state)
            outputs = self.policy.outputs(encoded, self.wants)
            reached = [name for name in outputs if leaf[name].grad is not None]
            torch.autograd.backward([outputs[name] for name in reached], [leaf[name].grad for name in reached])
        return sums

    def _parts(self, items: Sequence[Item]) -> Iterator[tuple[Encoded, Batch]]:
        groups = [item.group for item in items]
        size = self.groups_per_pass or len(items)
        for start in range(0, len(items), size):
            plan = lay_out(items, range(start, min(start + size, len(items))), roles=self.roles, annotators=self.annotators)
            encoded = self.policy.collate(groups, plan.rows)
            mask = encoded.mask
            columns = {"mask": mask, **{name: column.to(mask.device) for name, column in plan.columns.items()}}
            said = {source: source.logp(encoded) for source in dict.fromkeys(self.frozen.values())}  # one source may fill two columns
            columns |= {name: said[source] for name, source in self.frozen.items()}
            yield encoded, Batch(columns=columns, num_groups=plan.num_groups, roles=self.roles)

    def _counts(self, parts: Sequence[tuple[Encoded, Batch]]) -> dict[str, float]:
        return {name: sum(float(data.count(name)) for _, data in parts) for name in COUNTS}

    def _loss(self, batch: Batch, counts: Mapping[str, float], *, learn: bool) -> tuple[Tensor, Sums]:
        sums: Sums = {}
        if learn and any(o.spec.update_when == "before" for o in self.objectives if o.spec.update_state):
            for objective in self.objectives:
                _note(sums, self._call(objective, batch).stats, batch, prefix=f"{objective.name}/")
            self._move("before", sums)
            sums = {}
        losses = []
        for objective in self.objectives:
            said = self._call(objective, batch)
            loss = torch.stack([reduced(term, counts) for term in said.terms]).sum()
            losses.append(objective.weight * loss)
            sums[f"loss/{objective.name}"] = (float(loss.detach()), _SHARE)
            _note(sums, said.stats, batch, prefix=f"{objective.name}/")
        total = torch.stack(losses).sum()
        sums["loss"] = (float(total.detach()), _SHARE)
        _note(sums, monitor(batch), batch)
        return total, sums

    def _call(self, objective: Objective, batch: Batch) -> Loss:
        if objective.name in self.states:
            return objective.spec.fn(batch, self.states[objective.name], **objective.params)
        return objective.spec.fn(batch, **objective.params)

    def _require_finite(self, loss: Tensor, items: Sequence[Item]) -> None:
        if not torch.isfinite(loss):
            self.policy.module.zero_grad(set_to_none=True)  # earlier passes have added theirs
            shown = ", ".join(item.group.id for item in items[:8]) + (" ..." if len(items) > 8 else "")
            raise RunError("the loss is not finite; no update was made", field="loss", value=float(loss.detach()), mend=f"look at the groups {shown}")

    def _move(self, when: str, sums: Sums) -> None:
        for objective in self.objectives:
            if objective.spec.update_state is not None and objective.spec.update_when == when:
                prefix = f"{objective.name}/"
                own = {name.removeprefix(prefix): value for name, value in sums.items() if name.startswith(prefix)}
                self.states[objective.name] = objective.spec.update_state(self.states[objective.name], own)


def means(sums: Sums) -> dict[str, float]:
    """Returns each statistic as a number: its sum over its count, or the sum alone where the parts are shares of the whole already.

    What was counted 0 times (the accuracy of a batch without pairs) is absent, not 0.
    """
    return {name: total if count == _SHARE else total / count for name, (total, count) in sums.items() if count}


def add(sums: Sums, more: Sums) -> None:
    """Adds the statistics of a further pass."""
    for name, (total, count) in more.items():
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + count)


def _note(sums: Sums, stats: Mapping[str, Term], batch: Batch, prefix: str = "") -> None:
    """Adds the part of each statistic that this batch holds; what is counted by a constant is a share of the whole."""
    for name, term in stats.items():
        total = float(term.value.detach().double().sum())
        if isinstance(term.count, str):
            part = (total, float(batch.count(term.count)))
        elif isinstance(term.count, Tensor):
            part = (total, float(term.count))
        else:
            part = (total / term.count, _SHARE)
        add(sums, {prefix + name: part})
