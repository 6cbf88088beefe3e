"""What a run would do: the resolved recipe, the counted data, and what it needs of memory and updates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attune.config.load import dump_recipe
from attune.config.recipe import Recipe, Stage
from attune.policies.causal import CausalPolicy
from attune.recipes.assemble import check, check_places
from attune.recipes.progress import Watcher
from attune.recipes.run import resolve
from attune.recipes.train_stage import Prepared, prepare
from attune.training.source import Item, Order, rows_of

GIB = 2**30


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
            prepared = prepare(stage, None, model_path=_origin(made, stage.model.path), watcher=Watcher(quiet=True))
            lines += [f"# stage {stage.name}", *(f"#   {line}" for line in _counts(stage, prepared) + _memory(stage, prepared))]
        else:
            lines += [f"# stage {stage.name}: compares {stage.model.path} with {stage.evaluate.baseline if stage.evaluate else ''} on fresh samples"]
    return "\n".join(lines)


def _origin(recipe: Recipe, path: str) -> str:
    while path.startswith("stage:"):
        path = next(stage.model.path for stage in recipe.stages if stage.name == path.removeprefix("stage:"))
    return path


def _counts(stage: Stage, prepared: Prepared) -> list[str]:
    order = Order(len(prepared.train), stage.train.groups_per_update, seed=stage.seed, shuffle=stage.train.shuffle)
    updates = stage.train.updates or order.num_updates(stage.train.epochs)
    offered = len(prepared.feedback.train)
    records = sum(account.records for account in prepared.feedback.train_sources.accounts.values())
    pairs = sum(len(item.signal.pairs) for item in prepared.train)
    rows = sum(len(item.signal.responses) for item in prepared.train)
    return [
        f"data: {records} records, {offered} groups for training, {len(prepared.train)} of them used, {offered - len(prepared.train)} left out",
        f"held out: {len(prepared.held_out)} groups",
        f"signal: {rows} responses, {pairs} pairs",
        f"updates: {updates} of {order.per_update} groups ({stage.train.groups_per_pass or order.per_update} a pass)",
        f"layout: {prepared.policy.layout_used} ({prepared.policy.layout_reason})",
    ]


def _memory(stage: Stage, prepared: Prepared) -> list[str]:
    """Estimates bytes: weights, gradients and two moments of what learns, activations and scores of the largest pass.

    activations = T * L * (34 H b + 2.5 A S b),  T tokens of a pass, L layers, H width, A heads, S longest line, b bytes a number:
    the count of Korthikanti et al. 2022 (arXiv 2205.05198, Eq. 2) without dropout masks; the head adds R * V numbers twice, R supervised rows.
    """
    policy = prepared.policy
    parameters = list(policy.module.parameters())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    learning = sum(parameter.numel() * parameter.element_size() for parameter in parameters if parameter.requires_grad)
    size = stage.train.groups_per_pass or stage.train.groups_per_update
    tokens = sorted((_tokens(policy, item) for item in prepared.train), reverse=True)[:size]
    total, supervised = sum(all_ for all_, _ in tokens), sum(of_response for _, of_response in tokens)
    config = policy.model.config.get_text_config()
    width, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    number = parameters[0].element_size()
    longest = max(all_ for all_, _ in tokens)
    activations = total * layers * (34 * width + 2.5 * heads * longest) * number / 2
    head = 2 * supervised * config.vocab_size * 4 if policy.kind == "lm" else 0
    rows_beyond = any(objective.spec.rows for objective in prepared.learner.objectives)
    reference = weights if stage.model.adapter is None and policy.kind == "lm" and (stage.reference.cache == "off" or rows_beyond) else 0
    parts = {"weights": weights, "gradients and moments": 3 * learning, "reference": reference, "activations of the largest pass": activations, "head": head}
    said = ", ".join(f"{name} {value / GIB:.2f}" for name, value in parts.items())
    return [f"memory, about {sum(parts.values()) / GIB:.2f} GiB: {said}", f"largest pass: {total} tokens, {supervised} of them supervised"]


def _tokens(policy: CausalPolicy, item: Item) -> tuple[int, int]:
    rows = [policy.tokens(item.group, row) for row in rows_of(item)]
    prompts = {row.prompt_ids for row in rows}
    responses = sum(len(row.response_ids) for row in rows)
    return sum(map(len, prompts)) + responses, responses
