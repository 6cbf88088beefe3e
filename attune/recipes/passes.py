"""How many tokens a stage computes at once: what the recipe says, or what fits into memory; chosen once and then kept in the run."""

from __future__ import annotations

from collections.abc import Sequence

from torch.distributed.tensor import DTensor

from attune.config.recipe import Stage
from attune.policies.adapters import has_adapter
from attune.policies.causal import CausalPolicy
from attune.recipes.progress import Watcher
from attune.runs.directory import RunDirectory
from attune.training.distributed import SINGLE, World
from attune.training.memory import chosen
from attune.training.microbatch import Budget
from attune.training.source import Item
from attune.training.update import Learner, Objective

FILE = "passes.json"
"""Where a run keeps what was chosen: a resumed one, on a machine with other memory too, computes in the same passes."""


def budget_of(
    stage: Stage,
    policy: CausalPolicy,
    objectives: Sequence[Objective],
    sample: Sequence[Item],
    run: RunDirectory | None,
    *,
    watcher: Watcher,
    world: World = SINGLE,
) -> Budget:
    """Returns the budget of the stage's passes.

    Args:
        stage: says a number, or "auto".
        policy: at its start, on its device.
        objectives: say which rows and outputs there are.
        sample: some of what will be trained on.
        run: where the choice is kept; None: nowhere (a dry run).
        watcher: is told of it.
        world: the processes that train together.
    """
    if stage.train.tokens_per_pass != "auto":
        return Budget(stage.train.tokens_per_pass)
    recipe = (run.read_json("provenance.json") or {}).get("recipe") if run is not None else None
    said = world.told(run.read_json(FILE) if run is not None else None)
    if said is not None and said["recipe"] == recipe:
        return Budget(said["tokens"], said["limit"])
    plain = Learner(policy, objectives)
    beside = reference_bytes(stage, policy, objectives)
    budget, why = chosen(policy, sample, plain.wants, roles=plain.roles, optim=stage.optim, beside=beside, world=world)
    if run is not None:
        run.write_json(FILE, {"recipe": recipe, "tokens": budget.tokens, "limit": budget.limit, "why": why})
    watcher.say(f"{stage.name}: {why}")
    return budget


def asks_reference(stage: Stage, objectives: Sequence[Objective]) -> bool:
    """Returns whether a reference computes log-probabilities in each update, and so has weights while the policy trains."""
    if stage.model.head != "lm" or not any("ref_logp" in objective.spec.needs for objective in objectives):
        return False
    anew = stage.reference.cache == "off" or (stage.reference.cache == "auto" and stage.data is not None and stage.data.streaming)
    return stage.reference.source in ("ema", "refreshed") or anew or any(objective.spec.rows for objective in objectives)


def reference_bytes(stage: Stage, policy: CausalPolicy, objectives: Sequence[Objective]) -> int:
    """Returns bytes of the weights that a reference holds beside the policy's on this rank: another model's, or those that learn a second time."""
    reference = stage.reference
    bare = reference.source == "adapter_off" or (reference.source == "auto" and has_adapter(policy.module) and not policy.continued)
    if bare or not asks_reference(stage, objectives):
        return 0
    averaged = reference.source == "ema" or (reference.alpha is not None and reference.alpha < 1)  # in float32 or wider
    held = [parameter for parameter in policy.module.parameters() if parameter.requires_grad or reference.source == "checkpoint"]
    local = [parameter.to_local() if isinstance(parameter, DTensor) else parameter for parameter in held]
    return sum(one.numel() * max(one.element_size(), 4 if averaged else 0) for one in local)
