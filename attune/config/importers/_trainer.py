"""What TRL and LLaMA-Factory share: the arguments of transformers' Trainer, and LoRA by peft."""

from __future__ import annotations

import re
from typing import Any, Literal

from attune.config.importers import _machine
from attune.config.importers._fields import Fields

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"}
_TRACKERS = ("trackio", "tensorboard", "wandb")
_SAVE_STEPS, _SEED = 500, 42  # transformers' defaults
_REFERRING = frozenset({"dpo", "ipo_mean", "kto"})
"""Those of the objectives below that read a reference."""


def name(fields: Fields) -> str:
    """Returns what the run is called: its name, else the last part of its output folder, else the file's name."""
    said = fields.text("run_name") or (fields.text("output_dir") or "").rstrip("/").rpartition("/")[2] or fields.file.stem
    return re.sub(r"[^\w.-]+", "-", said).strip("-.") or "run"


def imitation(fields: Fields, *, key: str, weight: float, per: Literal["token", "row"]) -> dict[str, Any]:
    """Returns the objective that imitates chosen responses beside a preference loss, and notes what it is a mean over.

    Args:
        fields: the configuration.
        key: which of its keys ask for it, for the note.
        weight: of the negative log-likelihood.
        per: "token" where the peer takes one mean over all tokens of a pass, "row" where it takes one a response and then the mean of those.
    """
    over = "the tokens of all chosen responses" if per == "token" else "each chosen response's tokens and then over these responses"
    fields.notes.append(
        f"{key} is the objective sft with weight {weight:g}: a mean over {over} of a whole update here, of one device's pass there; "
        "a response that is chosen several times counts once here"
    )
    return {"name": "sft", "params": {"per": per}, "weight": weight}


def signal(name: str, *, imitated: bool) -> Any:
    """Returns `data.signal`: what feeds the main objective, and where one imitates beside it, the responses that somebody called good.

    Args:
        name: all_pairs or thumbs, for pairs and labels; demonstrations.
        imitated: whether an objective reads demonstrations beside these.
    """
    if not imitated:
        return {"name": name}
    # A response that won any of its comparisons is chosen there, also where another one of the same prompt won more.
    good = {"which": "all", "by": "ratings", "above": 0.5} if name == "thumbs" else {"which": "all", "above": 0.0}
    return [{"name": name}, {"name": "demonstrations", "params": good}]


def reference(fields: Fields, *, model: str, objective: str, base: bool = False) -> dict[str, Any]:
    """Returns the section `reference` where it is not what `auto` takes.

    Args:
        fields: the configuration.
        model: the path of the model that is trained.
        objective: the main one; where it reads no reference, a model named for it is left out with a note.
        base: whether the peer's reference, where the file names none, is the model below an adapter that is trained on.
    """
    path = fields.text("ref_model")
    if objective not in _REFERRING:
        if path is not None:
            fields.notes.append(f"ref_model = {path!r} is left out: the objective {objective} reads no reference")
        return {}
    if path not in (None, model):
        return {"reference": {"source": "checkpoint", "path": path}}
    return {"reference": {"source": "adapter_off"}} if base else {}


def optim(fields: Fields, *, lr: float, sharded: bool) -> dict[str, Any]:
    """Returns the section `optim`.

    Args:
        fields: the configuration.
        lr: the peer's default learning rate for this method.
        sharded: whether weights are sharded over processes here.
    """
    schedule = fields.text("lr_scheduler_type") or "linear"
    if schedule not in _SCHEDULES:
        fields.notes.append(f"lr_scheduler_type = {schedule!r} does not exist here; cosine is used")
    clip = fields.number("max_grad_norm", default=1.0)
    return {
        "name": _machine.optimiser(fields, sharded=sharded),
        "lr": fields.number("learning_rate", default=lr),
        "schedule": _SCHEDULES.get(schedule, "cosine"),
        "warmup": 0.0 if schedule == "constant" else _warmup(fields),
        "floor": _floor(fields, schedule),
        "betas": [fields.number("adam_beta1") or 0.9, fields.number("adam_beta2") or 0.999],
        "eps": fields.number("adam_epsilon") or 1e-8,
        "weight_decay": fields.number("weight_decay") or 0.0,
        "clip_norm": clip or None,
    }


def _warmup(fields: Fields) -> float:
    share, steps, updates = fields.number("warmup_ratio"), fields.number("warmup_steps"), fields.number("max_steps")
    if not steps:
        return share or 0.0
    if steps < 1:
        return steps
    if updates and updates > steps:
        return steps / updates
    fields.notes.append(f"warmup_steps = {steps:g} is a share of the updates here, and the file does not say how many; set optim.warmup")
    return 0.0


def _floor(fields: Fields, schedule: str) -> float:
    options = fields.take("lr_scheduler_kwargs")
    if not options:
        return 0.0
    if schedule == "cosine_with_min_lr" and isinstance(options, dict) and options.keys() == {"min_lr_rate"} and isinstance(options["min_lr_rate"], float):
        return options["min_lr_rate"]
    fields.notes.append(f"not carried over: lr_scheduler_kwargs = {options}; optim.floor is the share of the highest rate that the schedule ends at")
    return 0.0


def train(fields: Fields, *, dropout: bool, quantized: bool) -> dict[str, Any]:
    """Returns the section `train`.

    Args:
        fields: the configuration.
        dropout: whether dropout acts in the peer's trainer.
        quantized: whether weights are held in few bits here.
    """
    per_pass = fields.whole("per_device_train_batch_size", default=8)
    assert per_pass is not None
    passes = fields.whole("gradient_accumulation_steps") or 1
    fields.notes.append(
        f"groups_per_update = {per_pass * passes} is per_device_train_batch_size times gradient_accumulation_steps; multiply by the number of devices. "
        "A group is a prompt with all its responses, so pairs that share a prompt count once. "
        "How much is computed at once is chosen by memory (train.tokens_per_pass)"
    )
    updates = fields.whole("max_steps")
    found: dict[str, Any] = {
        "epochs": fields.number("num_train_epochs", default=3.0),
        "groups_per_update": per_pass * passes,
        "dropout": dropout,
        "keep_last": fields.whole("save_total_limit") or 2,
        "parallel": _machine.parallel(fields, quantized=quantized),
        "activations": _machine.activations(fields),
    }
    if updates and updates > 0:
        found["updates"] = updates
    strategy = (fields.take("save_strategy") or "no") if "save_strategy" in fields else "steps"
    save = fields.number("save_steps") or _SAVE_STEPS
    if strategy == "steps" and save >= 1:
        found["save_every"] = int(save)
    elif strategy != "no":
        said = f"save_steps = {save:g} is a share" if strategy == "steps" else f"save_strategy = {strategy!r}"
        fields.notes.append(f"{said}, and train.save_every counts updates: no checkpoints are written unless it is set, only the model at the end")
    trackers = [tracker for tracker in fields.names("report_to") if tracker in _TRACKERS]
    if trackers:
        found["log_to"] = trackers
    return found


def evaluates(fields: Fields, found: dict[str, Any]) -> bool:
    """Returns whether the peer evaluates during training, and writes down how often into the section `train`."""
    strategy = fields.take("eval_strategy", "evaluation_strategy") or "no"
    every = fields.number("eval_steps")
    if strategy in ("no", "off", False):
        return False
    if strategy == "steps" and every is not None and every >= 1:
        found["eval_every"] = int(every)
    else:
        fields.notes.append(f"evaluation by {strategy!r} without a whole number of eval_steps: here it is done at the start and the end; set train.eval_every")
    return True


def seed(fields: Fields) -> int:
    """Returns the seed; equal seeds do not mean equal draws in another program."""
    return fields.whole("seed", default=_SEED) or 0


def adapter(fields: Fields, *, rank: int, alpha: float, dropout: float, targets: Any, acts: bool) -> dict[str, Any]:
    """Returns the section `model.adapter`.

    Args:
        fields: the configuration.
        rank: of the addition.
        alpha: its scale is alpha / rank.
        dropout: inside the adapter.
        targets: names of modules, or "all-linear".
        acts: whether the peer leaves dropout switched on for this method.
    """
    if dropout and not acts:
        fields.notes.append(f"lora_dropout = {dropout:g} has no effect in {fields.peer}'s trainer for this method, which switches dropout off; it is 0 here")
    return {"rank": rank, "alpha": alpha, "dropout": dropout if acts else 0.0, "targets": targets}


def lengths(fields: Fields, *, total: int | None, prompt: int | None, response: int | None, overlong: str) -> dict[str, Any]:
    """Returns the fields of the section `model` that limit lengths.

    Args:
        fields: the configuration.
        total: tokens of prompt and response together; None: no limit.
        prompt: tokens of the prompt; None: no limit.
        response: tokens of the response; None: no limit.
        overlong: what the peer does with what is longer, "cut" or "drop".
    """
    if total is not None and prompt is not None and response is None and prompt < total:
        fields.notes.append(
            f"{total} tokens together, of which {prompt} for the prompt, become {prompt} for the prompt and {total - prompt} for the response here"
        )
        return {"max_prompt_tokens": prompt, "max_response_tokens": total - prompt, "overlong": overlong}
    if total is not None and (prompt is None or response is None):
        fields.notes.append(f"{total} tokens limit prompt and response together there; here each has its own limit, and both are set to {total}")
    return {"max_prompt_tokens": prompt or total, "max_response_tokens": response or total, "overlong": overlong}
