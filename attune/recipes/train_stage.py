"""One training stage: read, examine, train, measure on held-out prompts, save."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from attune.config.recipe import Stage
from attune.core.errors import ConfigError
from attune.data.voices import heard
from attune.diagnostics.doctor import examine
from attune.diagnostics.leaks import leaks
from attune.policies.adapters import has_adapter
from attune.policies.causal import CausalPolicy
from attune.recipes.assemble import Feedback, feedback_of, load_model, objectives_of, signal_of
from attune.recipes.held_out import accuracies, as_evals
from attune.recipes.progress import Watcher
from attune.runs.directory import RunDirectory
from attune.training.columns import frozen_columns
from attune.training.engine import Outcome, train
from attune.training.source import FEEDBACK, Intake, Item, rows_of, take, usable
from attune.training.trackers import open_trackers
from attune.training.update import Frozen, Learner, Objective


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a stage needs before its first update."""

    policy: CausalPolicy
    learner: Learner
    train: Sequence[Item]
    held_out: Sequence[Item]
    feedback: Feedback


def train_stage(stage: Stage, run: RunDirectory, *, model_path: str, fingerprint: str, resume: bool, watcher: Watcher) -> Outcome:
    """Trains one stage into its directory.

    Args:
        stage: with data and objectives.
        run: the stage's directory.
        model_path: where the model's weights are, stages resolved.
        fingerprint: of the whole recipe.
        resume: go on from the newest checkpoint.
        watcher: shows progress.

    Raises:
        AttuneError: anything in the recipe or the data that a user can mend.
    """
    prepared = prepare(stage, run, model_path=model_path, watcher=watcher)
    trackers = open_trackers(stage.train.log_to, run=run.name, folder=run.path, config=stage.model_dump(mode="json"))
    before = accuracies(prepared.learner.whole(prepared.held_out)) if prepared.held_out else {}
    with watcher.bar(f"{stage.name}: training") as advance:

        def on_update(done: int, total: int, metrics: Mapping[str, float]) -> None:
            for tracker in trackers:
                tracker(done, metrics)
            advance(done, f"{done}/{total} loss {metrics['loss']:.4f}" + (f" accuracy {metrics['accuracy']:.3f}" if "accuracy" in metrics else ""))

        outcome = train(
            prepared.learner,
            prepared.train,
            prepared.held_out,
            optim=stage.optim,
            loop=stage.train,
            seed=stage.seed,
            run=run,
            resume=resume,
            fingerprint=fingerprint,
            on_update=on_update,
        )
    if prepared.held_out:
        after = accuracies(prepared.learner.whole(prepared.held_out))
        run.write_json("evals.json", as_evals(before, after, title=stage.name))
        for name, estimate in after.items():
            watcher.say(f"{stage.name}: held-out accuracy of {name}: {before.get(name)} -> {estimate}")
    save_model(prepared.policy, run)
    return outcome


def prepare(stage: Stage, run: RunDirectory | None, *, model_path: str, watcher: Watcher) -> Prepared:
    """Reads the data, loads the model, fits the two to each other and computes the frozen columns.

    Args:
        stage: with data and objectives.
        run: where the account of the data and the doctor's findings go; None: nowhere (a dry run).
        model_path: where the model's weights are.
        watcher: shows progress.
    """
    if stage.data is None:
        raise ConfigError("a stage with objectives needs data", field="data")
    objectives, signal = objectives_of(stage), signal_of(stage.data)
    with watcher.bar(f"{stage.name}: reading the data") as advance:
        feedback = feedback_of(stage.data, seed=stage.seed)
        advance(0, f"{len(feedback.train)} groups to train on, {len(feedback.held_out)} held out")
    torch.manual_seed(stage.seed)
    policy = load_model(stage.model, path=model_path, dropout=stage.train.dropout, new_head=True)
    watcher.say(f"{stage.name}: layout {policy.layout_used}: {policy.layout_reason}")
    needs = sorted({name for objective in objectives for name in objective.spec.needs})
    items, intake = take(feedback.train, signal, policy, needs)
    held_out, held_intake = take(feedback.held_out, signal, policy, needs)
    if run is not None:
        write_account(run, feedback, policy, intake, held_intake, items)
        with watcher.bar(f"{stage.name}: doctor") as advance:
            voices = [heard(group, stage.data.annotators)[0] for group in feedback.train]
            diagnosis = examine(voices, model=policy, signal=signal, title=", ".join(feedback.train_sources.accounts))
            diagnosis = dataclasses.replace(diagnosis, findings=(*diagnosis.findings, *leaks(feedback.train, feedback.held_out)))
            advance(0, diagnosis.verdict[0])
        run.write_json("doctor.json", diagnosis.to_dict())
        for line in diagnosis.verdict[1:]:
            watcher.say(f"  {line}")
    if not items:
        why = ", ".join(f"{reason} ({num})" for reason, num in intake.reasons.most_common()) or f"all {len(feedback.held_out)} groups are held out"
        raise ConfigError(f"nothing is left to train on: {why}", field="data", mend="`attune doctor` says what the groups hold and which signal reads it")
    if any(parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16) for parameter in policy.module.parameters()):
        raise ConfigError("weights of 16 bits lose most updates", field="model.dtype", value=stage.model.dtype, allowed="float32, or an adapter")
    check_fed(objectives, items, [config.name for config in stage.data.signal])
    if any(objective.spec.rows for objective in objectives):
        check_mismatched(policy, [*items, *held_out])
    frozen = frozen_of(stage, policy, objectives, [*items, *held_out], run, watcher) if run is not None else {}
    names = sorted({pair.annotator for item in items for pair in item.signal.pairs if pair.annotator})
    annotators = {name: number for number, name in enumerate(names, start=1)}
    learner = Learner(policy, objectives, frozen=frozen, groups_per_pass=stage.train.groups_per_pass or stage.train.groups_per_update, annotators=annotators)
    return Prepared(policy, learner, items, held_out, feedback)


def frozen_of(
    stage: Stage, policy: CausalPolicy, objectives: Sequence[Objective], items: Sequence[Item], run: RunDirectory, watcher: Watcher
) -> dict[str, Frozen]:
    """Returns the frozen columns that the stage reads or logs, computed over all items where they are kept."""
    need_reference = any("ref_logp" in objective.spec.needs for objective in objectives)
    if stage.model.head != "lm" or not (need_reference or stage.train.track_start):
        return {}
    with watcher.bar(f"{stage.name}: reference log-probabilities", total=len(items)) as advance:
        return frozen_columns(
            policy,
            items,
            reference=stage.reference,
            need_reference=need_reference,
            track_start=stage.train.track_start,
            other_rows=any(objective.spec.rows for objective in objectives),
            groups_per_pass=stage.train.groups_per_pass or stage.train.groups_per_update,
            folder=str(run / "cache"),
            on_progress=lambda done, total: advance(done, f"{total} groups"),
        )


def check_fed(objectives: Sequence[Objective], items: Sequence[Item], signals: Sequence[str]) -> None:
    """Raises ConfigError where an objective reads feedback that the signal never makes: it would train nothing, silently."""
    for objective in objectives:
        needs = [name for name in FEEDBACK if name in objective.spec.needs]
        if needs and not any(usable(item.signal, needs) for item in items):
            allowed = "for pairs all_pairs, vote ...; for labels thumbs, win_lose; for demonstrations demonstrations; or several of them"
            said = ", ".join(signals)
            raise ConfigError(
                f"the objective {objective.name} reads {', '.join(needs)}, which the signal never makes", field="data.signal", value=said, allowed=allowed
            )


def check_mismatched(policy: CausalPolicy, items: Sequence[Item]) -> None:
    """Raises ConfigError where a response read under another group's prompt could outgrow the model's positions, in the middle of a run."""
    tokens = [policy.tokens(item.group, row) for item in items for row in rows_of(item)]
    longest = max(len(one.prompt_ids) for one in tokens) + max(len(one.response_ids) for one in tokens)
    if policy.max_positions is not None and longest > policy.max_positions:
        mend = "set model.max_prompt_tokens and model.max_response_tokens so that any prompt fits with any response"
        raise ConfigError(
            "the longest prompt with the longest response outgrows the model's positions",
            field="model",
            value=longest,
            allowed=f"at most {policy.max_positions}",
            mend=mend,
        )


def write_account(run: RunDirectory, feedback: Feedback, policy: CausalPolicy, intake: Intake, held_intake: Intake, items: Sequence[Item]) -> None:
    """Writes data.json: where every record and every response went."""
    sources = [source for source in (feedback.train_sources, feedback.eval_sources) if source is not None]
    said: dict[str, Any] = {}
    for name, source, part in (("train", feedback.train_sources, intake), ("eval", feedback.eval_sources, held_intake)):
        own = part.to_dict()
        said[name] = {**own, "sources": list(source.accounts) if source else ["held out by prompt"]}
        if source is not None:
            said[name]["records"] = sum(account.records for account in source.accounts.values())
            said[name]["reasons"] = {**own["reasons"], **source.left_out}
    said["train"]["cut"] = num_cut(policy, items)
    said["rejected"] = [str(finding) for source in sources for account in source.accounts.values() for finding in account.rejects]
    said["joined"] = sum(account.merged for source in sources for account in source.accounts.values())
    run.write_json("data.json", said)


def num_cut(policy: CausalPolicy, items: Sequence[Item]) -> int:
    """Returns how many trained responses, or their prompts, were cut to length."""
    if policy.overlong != "cut":
        return 0
    tokens = [policy.tokens(item.group, row) for item in items for row in rows_of(item)]
    return sum(bool(one.prompt_cut or one.response_cut) for one in tokens)


def save_model(policy: CausalPolicy, run: RunDirectory) -> None:
    """Writes model/, a plain transformers directory; of an adapter also adapter/, and model/ then has it merged in."""
    if not has_adapter(policy.module):
        policy.save(str(run.model))
        return
    policy.save(str(run / "adapter"))
    policy.with_module(policy.module.merge_and_unload()).save(str(run.model))


def trained(run: RunDirectory) -> bool:
    """Returns whether a stage's model has been written whole."""
    return (Path(run.model) / "config.json").is_file() and run.read_json("outcome.json") is not None
