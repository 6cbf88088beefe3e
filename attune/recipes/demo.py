"""`attune demo`: the whole line on a small world whose right answers are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from attune.config.recipe import Recipe, Stage
from attune.core.protocols import SamplingParams
from attune.core.record import Group
from attune.data.write import write
from attune.policies.causal import CausalPolicy
from attune.recipes.assemble import check, load_model
from attune.recipes.evaluate_stage import compare
from attune.recipes.progress import Watcher
from attune.recipes.run import begin, finish, model_path, resolve, run_stage
from attune.report.build import build
from attune.rewards.scalar import ScalarReward
from attune.runs.directory import RunDirectory
from attune.samplers.transformers import TransformersSampler
from attune.worlds.language import MAX_TOKENS, LanguageWorld

NUM_DEMONSTRATIONS, NUM_PREFERENCES, NUM_TEST = 3000, 1000, 300
NUM_RESPONSES = 4
QUICK = 24
"""Groups of each kind when the demo only checks that everything runs."""


def demo(folder: Path | None, *, seed: int, quick: bool) -> Path:
    """Runs the line and returns the path of the report.

    Demonstrations -> fine-tuned start -> its answers -> verdicts of three annotators -> doctor, reward model and DPO policy -> policy against
    start, by the exact marks and by the reward model.

    Args:
        folder: the run's directory; None: runs/demo, or runs/demo-2 ... where that is taken.
        seed: of everything.
        quick: two updates a stage and a few groups.
    """
    torch.set_num_threads(1)  # a model this small gains nothing by more, and loses much where the machine is busy
    watcher = Watcher()
    world, place = LanguageWorld(seed), RunDirectory(folder or _free(Path("runs")))
    recipe = demo_recipe(place, seed=seed, quick=quick)
    check(recipe)
    sizes = [QUICK] * 3 if quick else [NUM_DEMONSTRATIONS, NUM_PREFERENCES, NUM_TEST]
    begin(recipe, place, resume=False)
    place.write_json("stages.json", [*(stage.name for stage in recipe.stages), "compare"])
    sft, reward, dpo = recipe.stages
    tokenizer = world.build_tokenizer()
    CausalPolicy(world.build_model(tokenizer), tokenizer).save(str(place / "world/model"))
    write(world.demonstrations(sizes[0]), place / "world/demonstrations.jsonl")
    watcher.say(f"world: {sizes[0]} demonstrations, seed {seed}")
    run_stage(recipe, sft, place, resume=False, watcher=watcher)
    start = _load(recipe, place, sft)
    prompts = world.prompts(sizes[1], "preferences")
    with watcher.bar("sampling answers of the start", total=len(prompts) * NUM_RESPONSES) as advance:
        sampler = TransformersSampler(start, batch_size=256, on_progress=lambda done, total: advance(done, f"{done}/{total}"))
        answered = sampler.sample(prompts, k=NUM_RESPONSES, params=SamplingParams(max_tokens=MAX_TOKENS), seed=seed)
    write(world.judge(answered), place / "world/preferences.jsonl")
    for stage in (reward, dpo):
        run_stage(recipe, stage, place, resume=False, watcher=watcher)
    _compare(recipe, place, world, world.prompts(sizes[2], "test"), start, watcher=watcher, seed=seed)
    finish(place)
    return build(place)


def _free(runs: Path) -> Path:
    names = itertools.chain(["demo"], (f"demo-{number}" for number in itertools.count(2)))
    return next(runs / name for name in names if not (runs / name).exists())


def demo_recipe(place: RunDirectory, *, seed: int, quick: bool) -> Recipe:
    """Returns the shipped recipe with the world's paths; `quick` cuts every stage to two updates."""
    overrides = [f"seed={seed}", f"sft.model.path={place / 'world/model'}", f"sft.data.train={place / 'world/demonstrations.jsonl'}"]
    overrides += [f"{stage}.data.train={place / 'world/preferences.jsonl'}" for stage in ("reward", "dpo")]
    if quick:
        overrides += [f"{stage}.train.updates=2" for stage in ("sft", "reward", "dpo")]
    return resolve("demo", overrides)


def _load(recipe: Recipe, place: RunDirectory, stage: Stage) -> CausalPolicy:
    return load_model(stage.model, path=model_path(recipe, place, f"stage:{stage.name}"), use_token_ids=stage.model.head == "lm")


def _compare(recipe: Recipe, place: RunDirectory, world: LanguageWorld, prompts: Sequence[Group], start: CausalPolicy, *, watcher: Watcher, seed: int) -> None:
    _, reward, dpo = recipe.stages
    policy, judge = _load(recipe, place, dpo), _load(recipe, place, reward)
    folder = RunDirectory(place / "compare")
    folder.write_json("provenance.json", place.read_json("provenance.json"))
    compare(
        folder,
        prompts,
        trained=TransformersSampler(policy, batch_size=256, name="trained"),
        start=TransformersSampler(start, batch_size=256, name="start"),
        judges={"gold reward": world.gold_reward(), "reward model": ScalarReward(judge)},
        samples=1,
        params=SamplingParams(max_tokens=MAX_TOKENS),
        seed=seed,
        tie_threshold=0.0,
        watcher=watcher,
        policies=(policy, start),
    )
    finish(folder)
