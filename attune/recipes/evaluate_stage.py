"""Comparison of two models on fresh samples: win rate by a reward model, rewards, KL, length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attune.config.recipe import Stage
from attune.core.errors import ConfigError
from attune.core.protocols import Reward, Row, Sampler, SamplingParams
from attune.core.record import MAIN, Group, text_of
from attune.evals.win_rate import Comparison, outcome_from_scores, win_rate
from attune.ops.intervals import mean_estimate, show
from attune.policies.causal import CausalPolicy
from attune.recipes.assemble import load_model, read_sources
from attune.recipes.evidence import entry
from attune.recipes.progress import Watcher
from attune.rewards.scalar import ScalarReward
from attune.runs.directory import RunDirectory
from attune.samplers.transformers import TransformersSampler

PORTION = 64
"""Prompts sampled between two steps of the bar."""

SHOWN = 24
"""Prompts whose samples are kept for the report."""


def evaluate_stage(stage: Stage, run: RunDirectory, *, resolve: Callable[[str], str], watcher: Watcher) -> None:
    """Samples from the stage's model and its baseline, lets the reward model judge, and writes evals.json and samples.jsonl.

    Args:
        stage: with an `evaluate` section.
        run: the stage's directory.
        resolve: turns `stage:NAME` into a path.
        watcher: shows progress.
    """
    config = stage.evaluate
    if config is None:
        raise ConfigError("a stage that evaluates needs the section", field="evaluate")
    groups = read_sources(config.prompts, max_bad=0.05, limit=None, seed=stage.seed).groups
    plain = stage.model.model_copy(update={"adapter": None, "head": "lm", "quantize": None})  # models as they are saved
    policy, baseline = (load_model(plain, path=resolve(path), use_token_ids=True) for path in (stage.model.path, config.baseline))
    judge = load_model(plain.model_copy(update={"head": "scalar"}), path=resolve(config.reward))
    fitting = [group for group in groups if all(fits(group, one, config.max_tokens) for one in (policy, baseline, judge))]
    if not fitting:
        allowed = f"prompts that leave room for {config.max_tokens} tokens in the model's {policy.max_positions} positions"
        raise ConfigError("no group has a prompt to sample from", field="evaluate.prompts", value=[source.path for source in config.prompts], allowed=allowed)
    left_out = {group.id for group in groups} - {group.id for group in fitting}
    if left_out:
        watcher.say(f"{stage.name}: {len(left_out)} of {len(groups)} groups are left out: no prompt, or no room for {config.max_tokens} tokens")
    prompts = fitting[: config.num_prompts]
    account = {"groups": len(groups), "kept": len(prompts), "beyond num_prompts": len(fitting) - len(prompts), "no prompt or no room": sorted(left_out)}
    run.write_json("data.json", {**(run.read_json("data.json") or {}), "prompts": account})
    params = SamplingParams(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)
    compare(
        run,
        prompts,
        trained=TransformersSampler(policy),
        start=TransformersSampler(baseline),
        judges={"reward model": ScalarReward(judge)},
        samples=config.samples,
        params=params,
        seed=stage.seed,
        tie_threshold=config.tie_threshold,
        watcher=watcher,
        policies=(policy, baseline),
    )


def fits(group: Group, policy: CausalPolicy, max_tokens: int) -> bool:
    """Returns whether a group has a prompt behind which a response of so many tokens, and the stop token a judge reads after it, finds room."""
    return MAIN in group.contexts and (policy.max_positions is None or len(policy.prompt_ids(group.prompt)) + max_tokens + 1 <= policy.max_positions)


def compare(
    run: RunDirectory,
    prompts: Sequence[Group],
    *,
    trained: Sampler,
    start: Sampler,
    judges: dict[str, Reward],
    samples: int,
    params: SamplingParams,
    seed: int,
    tie_threshold: float,
    watcher: Watcher,
    policies: tuple[CausalPolicy, CausalPolicy] | None = None,
) -> dict[str, Any]:
    """Compares two samplers on prompts and writes evals.json and samples.jsonl.

    Args:
        run: where to.
        prompts: groups with a prompt.
        trained, start: what is compared, and with what.
        judges: name -> reward; the first one's scores are shown with the samples.
        samples: responses of each to each prompt.
        params, seed: of the sampling.
        tie_threshold: rewards that differ by no more are a tie.
        watcher: shows progress.
        policies: (trained, start) behind the samplers, reading a sample by its own token ids, for KL(trained || start) on the trained one's
            samples; None: not measured.

    Returns:
        What evals.json holds.
    """
    ours = _sampled("trained", trained, prompts, samples, params, seed, watcher)
    theirs = _sampled("start", start, prompts, samples, params, seed + 1, watcher)
    evals: dict[str, Any] = {}
    shown: list[tuple[list[float], list[float]]] = []
    for name, judge in judges.items():
        scores = [(list(a), list(b)) for a, b in zip(judge.score(ours), judge.score(theirs), strict=True)]
        shown = shown or scores
        evals |= _judged(name, prompts, ours, theirs, scores, tie_threshold)
    evals |= _lengths(ours, theirs)
    if policies is not None and trained.exact(params):
        evals |= _kl(*policies, ours)
    run.write_json("evals.json", {**(run.read_json("evals.json") or {}), **evals})
    (run / "samples.jsonl").unlink(missing_ok=True)
    run.append("samples.jsonl", [_sample(a, b, *score) for a, b, score in list(zip(ours, theirs, shown, strict=True))[:SHOWN]])
    for said in evals.values():
        ends = "interval unknown" if said["low"] is None else f"{show(said['low'])}, {show(said['high'])}"
        watcher.say(f"{said['title']}: {show(said['value'])} [{ends}]")
    return evals


def _sampled(name: str, sampler: Sampler, prompts: Sequence[Group], k: int, params: SamplingParams, seed: int, watcher: Watcher) -> list[Group]:
    """Samples in portions, so that there is progress to see; a sample depends on its seed and its group alone."""
    found: list[Group] = []
    with watcher.bar(f"sampling from {name}", total=len(prompts)) as advance:
        for place in range(0, len(prompts), PORTION):
            found += sampler.sample(prompts[place : place + PORTION], k=k, params=params, seed=seed)
            advance(len(found), f"{len(prompts)} prompts x {k}")
    return found


def _judged(
    name: str, prompts: Sequence[Group], ours: Sequence[Group], theirs: Sequence[Group], scores: Sequence[tuple[list[float], list[float]]], tie_threshold: float
) -> dict[str, Any]:
    comparisons = [
        Comparison(prompt.id, outcome_from_scores(a, b, tie_threshold=tie_threshold), len(ra.text), len(rb.text))
        for prompt, mine, other, (first, second) in zip(prompts, ours, theirs, scores, strict=True)
        for a, b, ra, rb in zip(first, second, mine.responses, other.responses, strict=True)
    ]
    rate = win_rate(comparisons)
    note = f"{rate.wins} won, {rate.ties} tied, {rate.losses} lost over {rate.num_prompts} prompts; ties count half"
    key = name.replace(" ", "_")
    found = {f"win_rate_{key}": entry("win_rate", f"win rate over the start, by {name}", rate.rate, unit="share", better="high", baseline=0.5, note=note)}
    clusters = [prompt.id for prompt, (first, _) in zip(prompts, scores, strict=True) for _ in first]
    for side, which in ((0, "trained"), (1, "start")):
        mean = mean_estimate([score for pair in scores for score in pair[side]], clusters=clusters)
        found[f"{key}_{which}"] = entry("mean", f"mean score by {name}, {which}", mean, unit="reward", better="high")
    return found


def _lengths(ours: Sequence[Group], theirs: Sequence[Group]) -> dict[str, Any]:
    found = {}
    for which, groups in (("trained", ours), ("start", theirs)):
        clusters = [group.id for group in groups for _ in group.responses]
        mean = mean_estimate([float(len(response.text)) for group in groups for response in group.responses], clusters=clusters)
        found[f"length_{which}"] = entry("length", f"length of a response, {which}", mean, unit="characters")
    return found


def _kl(policy: CausalPolicy, start: CausalPolicy, samples: Sequence[Group]) -> dict[str, Any]:
    """KL(policy || start) in nats a response: the mean of log pi - log pi_start over the policy's own sampled tokens, unbiased."""
    import torch

    ratios: list[float] = []
    for group in samples:
        encoded = policy.collate([group], [Row(group=0, response=index) for index in range(len(group.responses))])
        with torch.no_grad():
            difference_NT = policy.outputs(encoded, ("logp",))["logp"] - start.outputs(encoded, ("logp",))["logp"]
        ratios += torch.where(encoded.mask, difference_NT, 0.0).sum(-1).tolist()
    mean = mean_estimate(ratios, clusters=[group.id for group in samples for _ in group.responses])
    return {"kl": entry("mean", "KL(trained || start), on the trained model's samples", mean, unit="nats a response", baseline=0.0)}


def _sample(ours: Group, theirs: Group, first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    return {
        "prompt": text_of(ours.prompt.content),
        "responses": [
            {"name": "start", "text": theirs.responses[0].text, "score": second[0]},
            {"name": "trained", "text": ours.responses[0].text, "score": first[0]},
        ],
    }
