"""What a run would do: the resolved recipe, the counted data, and what it needs of memory and updates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attune.config.load import dump_recipe
from attune.config.recipe import Recipe, Stage
from attune.recipes.assemble import check, check_places
from attune.recipes.passes import reference_bytes
from attune.recipes.progress import Watcher
from attune.recipes.run import resolve
from attune.recipes.train_stage import Prepared, prepare
from attune.training.machine import tune
from attune.training.memory import estimate
from attune.training.source import Drawn, Order

GIB = 2**30
_LOOKED_AT = 8  # updates whose passes are planned


def dry_run(recipe: str | Path | Recipe, overrides: Sequence[str], run_dir: Path | None) -> str:
    """Returns what `attune run` would do, without training or writing anything.

    Stages whose model an earlier stage makes are counted with the model that stage starts from.
    """
    made = resolve(recipe, overrides)
    check(made)
    check_places(made)
    lines = [dump_recipe(made), f"# run directory: {run_dir or Path('runs') / made.name}"]
    for stage in made.stages:
        if stage.objectives:
            tune(stage.train.matmul)
            prepared = prepare(stage, None, model_path=origin(made, stage.model.path), watcher=Watcher(quiet=True))
            lines += [f"# stage {stage.name}", *(f"#   {line}" for line in _counts(stage, prepared) + _passes(stage, prepared))]
        else:
            lines += [f"# stage {stage.name}: compares {stage.model.path} with {stage.evaluate.baseline if stage.evaluate else ''} on fresh samples"]
    return "\n".join(lines)


def origin(recipe: Recipe, path: str) -> str:
    """Returns the model that a stage, or the stages before it, start from."""
    while path.startswith("stage:"):
        path = next(stage.model.path for stage in recipe.stages if stage.name == path.removeprefix("stage:"))
    return path


def _counts(stage: Stage, prepared: Prepared) -> list[str]:
    material = prepared.material
    order = Order(len(material.train), stage.train.groups_per_update, seed=stage.seed, shuffle=stage.train.shuffle)
    updates = stage.train.updates or order.num_updates(stage.train.epochs)
    pairs = sum(len(item.signal.pairs) for item in material.sample)
    rows = sum(len(item.signal.responses) for item in material.sample)
    seen = f"in a sample of {len(material.groups)}" if material.streamed else f"{len(material.groups)} groups for training"
    left = len(material.groups) - len(material.sample)
    return [
        f"data: {material.num_records} records, {seen}, {len(material.sample)} of them used, {left} left out",
        f"held out: {len(material.held_out)} groups",
        f"signal: {rows} responses, {pairs} pairs",
        f"updates: {updates} of {order.per_update} groups",
        f"layout: {prepared.policy.layout_used} ({prepared.policy.layout_reason})",
    ]


def _passes(stage: Stage, prepared: Prepared) -> list[str]:
    """Says how updates are cut and what memory they need; the largest pass of the first ones is computed to know it."""
    learner, train = prepared.learner, prepared.material.train
    order = Order(len(train), stage.train.groups_per_update, seed=stage.seed, shuffle=stage.train.shuffle)
    updates = [Drawn(train, order(update)) for update in range(min(_LOOKED_AT, order.num_updates(1.0)))]
    drafts = [learner.drafts(items) for items in updates]
    num_passes = [sum(len(draft.runs) for draft in one) for one in drafts]
    beside = reference_bytes(stage, prepared.policy, learner.objectives)
    found, size = estimate(learner, updates, stage.optim, beside=beside)
    tokens = learner.room.budget.tokens
    said = ", ".join(f"{name} {part / GIB:.2f}" for name, part in found.parts.items() if part)
    return [
        f"passes: {min(num_passes)} to {max(num_passes)} an update, at most {tokens} tokens each",
        f"largest pass: {size.tokens} tokens, {size.supervised} of them supervised",
        f"memory, about {found.total / GIB:.2f} GiB{' and what passes take, which is unknown' if found.unknown else ''}: {said}",
        *([f"unknown: {found.unknown}"] if found.unknown else []),
    ]
