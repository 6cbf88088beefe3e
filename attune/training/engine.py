"""The loop: updates in order, evaluated, logged, saved, and taken up again where they stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.errors import ConfigError, RunError
from attune.runs.directory import RunDirectory
from attune.training.checkpoint import Progress, best_checkpoint, latest_checkpoint, load_checkpoint, load_weights, prune, save_checkpoint
from attune.training.optim import build_optimizer, learning_rate
from attune.training.source import Item, Order
from attune.training.update import Learner, means

OnUpdate = Callable[[int, int, Mapping[str, float]], None]
"""Takes updates done, updates in all, and the metrics of the last one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to."""

    updates: int
    stopped_early: bool
    before: Mapping[str, float]
    # metrics on the evaluation items before the first update; empty: there were none
    after: Mapping[str, float]
    # the same at the end, of the weights that the policy now holds
    last: Mapping[str, float]
    # metrics of the last update


def train(
    learner: Learner,
    items: Sequence[Item],
    held_out: Sequence[Item] = (),
    *,
    optim: OptimConfig,
    loop: TrainConfig,
    seed: int = 0,
    run: RunDirectory | None = None,
    resume: bool = False,
    fingerprint: str = "",
    on_update: OnUpdate | None = None,
) -> Outcome:
    """Trains the learner's policy in place.

    Args:
        learner: policy and objectives.
        items: what is trained on, at least one.
        held_out: what is evaluated on; empty: no evaluation.
        optim: optimiser and schedule.
        loop: epochs, batch, evaluation, checkpoints.
        seed: of the order and of dropout.
        run: where metrics and checkpoints go; None: nowhere.
        resume: go on from the run's newest complete checkpoint if there is one.
        fingerprint: of the recipe; a checkpoint with another one is refused.
        on_update: called after each update.

    Raises:
        ConfigError: there is nothing to train on, or early stopping lacks what it needs.
        RunError: a loss or gradient is not finite, or a checkpoint cannot be read or written; the weights are those of the last whole update.
    """
    if not items:
        raise ConfigError("nothing is left to train on", field="data", mend="`attune doctor` says what became of the records")
    if loop.patience is not None and (run is None or not held_out or loop.eval_every is None):
        raise ConfigError("early stopping needs a run directory, held-out data and train.eval_every", field="train.patience", value=loop.patience)
    session = _Session(learner, items, held_out, optim, loop, seed, run, fingerprint)
    session.begin(resume)
    while session.progress.update < session.num_updates and not session.stopped:
        metrics = session.step()
        if on_update is not None:
            on_update(session.progress.update, session.num_updates, metrics)
    return session.finish()


class _Session:
    """One run of the loop; its whole state is what a checkpoint holds."""

    def __init__(
        self,
        learner: Learner,
        items: Sequence[Item],
        held_out: Sequence[Item],
        optim: OptimConfig,
        loop: TrainConfig,
        seed: int,
        run: RunDirectory | None,
        fingerprint: str,
    ) -> None:
        self.learner, self.items, self.held_out = learner, items, held_out
        self.optim, self.loop, self.run, self.fingerprint = optim, loop, run, fingerprint
        self.seed, self.module = seed, learner.policy.module
        self.order = Order(len(items), loop.groups_per_update, seed=seed, shuffle=loop.shuffle)
        self.num_updates = loop.updates or self.order.num_updates(loop.epochs)
        self.optimizer = build_optimizer(self.module, optim)
        self.progress = Progress(update=0)
        self.before: Mapping[str, float] = {}
        self.after: Mapping[str, float] = {}
        self.last: Mapping[str, float] = {}

    @property
    def stopped(self) -> bool:
        return self.loop.patience is not None and self.progress.stale >= self.loop.patience

    def begin(self, resume: bool) -> None:
        torch.manual_seed(self.seed)
        path = latest_checkpoint(self.run.checkpoints) if resume and self.run is not None else None
        if path is None:
            if self.run is not None:
                self.run.truncate_metrics(-1)
            self.before = self.after = self._evaluate()
            return
        assert self.run is not None
        self.progress, states = load_checkpoint(path, self.module, self.optimizer, fingerprint=self.fingerprint)
        self.learner.states |= states
        self.run.truncate_metrics(self.progress.update)
        said = list(self.run.lines("metrics.jsonl"))
        evals, trains = ([_numbers(line) for line in said if line["split"] == split] for split in ("eval", "train"))
        self.before, self.after = (evals[0], evals[-1]) if evals else ({}, {})
        self.last = trains[-1] if trains else {}

    def step(self) -> Mapping[str, float]:
        """One update, then whatever is due after it."""
        started = time.perf_counter()
        update = self.progress.update
        lr = learning_rate(update, self.num_updates, self.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.module.train(self.loop.dropout)
        sums = self.learner.backward([self.items[index] for index in self.order(update)])
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.after_step(sums)
        self.progress = replace(self.progress, update=update + 1)
        seconds = time.perf_counter() - started
        numbers = means(sums)
        rate = {"tokens_per_second": numbers["computed_tokens"] / seconds, "seconds": seconds}
        self.last = {**numbers, "grad_norm": norm, "lr": lr, **rate}
        self._log("train", self.last)
        self._due()
        return self.last

    def _clip(self) -> float:
        learning = [parameter for parameter in self.module.parameters() if parameter.grad is not None]
        limit = self.optim.clip_norm if self.optim.clip_norm is not None else float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(learning, limit))
        if not torch.isfinite(torch.tensor(norm)):
            ids = ", ".join(self.items[index].group.id for index in self.order(self.progress.update)[:8])
            self.optimizer.zero_grad(set_to_none=True)
            raise RunError(
                "the gradient is not finite; no update was made", field="grad_norm", value=norm, mend=f"update {self.progress.update + 1} read the groups {ids}"
            )
        return norm

    def _due(self) -> None:
        done, last = self.progress.update, self.progress.update == self.num_updates
        if self.loop.eval_every and (done % self.loop.eval_every == 0 or last):
            self.after = self._evaluate()
            self._compare()
        elif last:
            self.after = self._evaluate()
        if self.run is not None and self.loop.save_every and (done % self.loop.save_every == 0 or last):
            self._save()
            prune(self.run.checkpoints, self.loop.keep_last, self.progress.best_update)

    def _compare(self) -> None:
        """Keeps the best weights where early stopping asks for them."""
        if self.loop.patience is None:
            return
        loss, best = self.after["loss"], self.progress.best_loss
        if best is None or loss < best:
            self.progress = replace(self.progress, best_loss=loss, best_update=self.progress.update, stale=0)
            self._save(best=True)
        else:
            self.progress = replace(self.progress, stale=self.progress.stale + 1)

    def _save(self, *, best: bool = False) -> None:
        assert self.run is not None
        save_checkpoint(self.run.checkpoints, self.progress, self.module, self.optimizer, self.learner.states, fingerprint=self.fingerprint, best=best)
        if best and not self.loop.save_every:
            prune(self.run.checkpoints, self.loop.keep_last, self.progress.best_update)

    def _evaluate(self) -> Mapping[str, float]:
        if not self.held_out:
            return {}
        self.module.eval()
        numbers = means(self.learner.measure(self.held_out))
        self._log("eval", numbers)
        return numbers

    def _log(self, split: str, numbers: Mapping[str, float]) -> None:
        if self.run is not None:
            line: dict[str, Any] = {"update": self.progress.update, "split": split, **numbers}
            self.run.append("metrics.jsonl", [line])

    def finish(self) -> Outcome:
        self.module.eval()
        best = self.progress.best_update
        if self.run is not None and best is not None and best != self.progress.update:
            load_weights(best_checkpoint(self.run.checkpoints, best), self.module)
            self.after = means(self.learner.measure(self.held_out))
        return Outcome(self.progress.update, self.stopped, self.before, self.after, self.last)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the statistics of a line of metrics."""
    return {key: value for key, value in line.items() if isinstance(value, float)}
