"""Recipes from LLaMA-Factory's configurations: the stages dpo (with orpo and simpo), kto, rm and sft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attune.config.importers import _machine, _trainer
from attune.config.importers._fields import Fields, Imported
from attune.core.errors import ConfigError

NAME = "LLaMA-Factory"
SIGNS = frozenset({"stage", "finetuning_type", "pref_loss", "pref_beta", "cutoff_len", "dataset_dir", "lora_rank"})

_METHODS = {"dpo": "dpo", "kto": "kto", "rm": "reward", "sft": "sft"}
_LR = 5e-5  # its default for every stage
_INFO = "dataset_info.json"


def recipe(fields: Fields, method: str | None) -> Imported:
    """Returns the recipe of a LLaMA-Factory configuration; see import_config."""
    stage = fields.text("stage") or "sft"
    if stage not in _METHODS:
        raise fields.wrong("stage", stage, ", ".join(_METHODS))
    if method is not None and method != _METHODS[stage] and not (stage == "dpo" and method in ("orpo", "cpo")):
        raise ConfigError("the file is for another method", file=str(fields.file), field="stage", value=stage, allowed=_METHODS[stage])
    path = fields.text("model_name_or_path")
    if path is None:
        raise ConfigError("a required field is missing", file=str(fields.file), field="model_name_or_path")
    kind = fields.text("finetuning_type") or "lora"
    if kind not in ("lora", "full"):
        raise fields.wrong("finetuning_type", kind, "lora, full")
    acts = stage in ("sft", "rm")
    objectives = _objectives(fields, stage)
    held = _machine.quantize(fields, adapted=kind == "lora")
    train = _trainer.train(fields, dropout=acts, quantized=bool(held))
    if (balance := fields.number("moe_aux_loss_coef")) is not None:
        train["balance_experts"] = balance
    evaluated = _trainer.evaluates(fields, train)
    pure = fields.flag("pure_bf16")
    model: dict[str, Any] = {
        "path": path,
        "head": "scalar" if stage == "rm" else "lm",
        **_machine.precision(fields, half=kind == "lora" or pure),
        **({"dtype": "bfloat16"} if pure else {}),
        **held,
        "trust_remote_code": fields.flag("trust_remote_code"),
        **_trainer.lengths(fields, total=fields.whole("cutoff_len", default=2048), prompt=None, response=None, overlong="cut"),
    }
    if kind == "lora":
        model["adapter"] = _adapter(fields, acts=acts)
    continued = "path" in model.get("adapter", ())
    return fields.finish(
        {
            "name": _trainer.name(fields),
            "seed": _trainer.seed(fields),
            "model": model,
            "data": _data(fields, stage, evaluated=evaluated, imitated=len(objectives) > 1),
            "objectives": objectives,
            **_trainer.reference(fields, model=path, objective=objectives[0]["name"], base=continued),
            "optim": _trainer.optim(fields, lr=_LR, sharded=train["parallel"] == "fsdp"),
            "train": train,
        }
    )


def _objectives(fields: Fields, stage: str) -> list[dict[str, Any]]:
    if stage == "sft":
        return [{"name": "sft", "params": {"per": "token"}}]
    if stage == "rm":
        return [{"name": "bradley_terry", "params": {}}]
    beta = fields.number("pref_beta", default=0.1)
    if stage == "kto":
        params = {"lambda_d": fields.number("kto_chosen_weight") or 1.0, "lambda_u": fields.number("kto_rejected_weight") or 1.0}
        fields.notes.append("the reference point is a mean over mismatched rows of the whole update here, not of one device's batch")
        main = {"name": "kto", "params": {"beta": beta, **params}}
    else:
        main = _preference(fields, beta)
    weight = fields.number("pref_ftx")
    if not weight:
        return [main]
    if stage == "kto":
        fields.notes.append("pref_ftx is multiplied by all rows over desirable rows of each pass there (2 where half are desirable), and by nothing here")
    return [main, _trainer.imitation(fields, key="pref_ftx", weight=weight, per="row")]


def _preference(fields: Fields, beta: float | None) -> dict[str, Any]:
    loss, smoothing = fields.text("pref_loss") or "sigmoid", fields.number("dpo_label_smoothing") or 0.0
    if loss == "sigmoid":
        return {"name": "dpo", "params": {"beta": beta, "label_smoothing": smoothing}}
    if smoothing:
        fields.notes.append(f"dpo_label_smoothing has no effect on pref_loss = {loss} there, and is left out")
    if loss == "ipo":
        fields.notes.append(
            "pref_loss ipo averages log-probabilities over tokens there, as the preset ipo_mean does here; plain ipo sums them. pref_beta is our tau"
        )
        return {"name": "ipo_mean", "params": {"tau": beta}}
    if loss == "orpo":
        return {"name": "orpo", "params": {"lambda_or": beta}}
    if loss == "simpo":
        return {"name": "simpo", "params": {"beta": beta, "gamma": fields.number("simpo_gamma", default=0.5)}}
    raise fields.wrong("pref_loss", loss, "sigmoid, ipo, orpo, simpo")


def _adapter(fields: Fields, *, acts: bool) -> dict[str, Any]:
    rank = fields.whole("lora_rank", default=8)
    assert rank is not None
    alpha, dropout = fields.number("lora_alpha") or 2.0 * rank, fields.number("lora_dropout") or 0.0
    targets: Any = fields.names("lora_target") or ["all"]
    found = _trainer.adapter(fields, rank=rank, alpha=alpha, dropout=dropout, targets="all-linear" if targets == ["all"] else targets, acts=acts)
    paths = fields.names("adapter_name_or_path")
    if not paths:
        return found
    if len(paths) > 1 or fields.flag("create_new_adapter"):
        fields.notes.append(
            "several adapters, or a new one over an old, are merged into the model there; merge them first and give the merged model as model.path"
        )
        return found
    return {**found, "path": paths[0]}


def _data(fields: Fields, stage: str, *, evaluated: bool, imitated: bool) -> dict[str, Any]:
    folder = fields.text("dataset_dir") or "data"
    names = fields.names("dataset")
    if not names:
        raise ConfigError("a required field is missing", file=str(fields.file), field="dataset")
    info = _info(fields, folder)
    signal = _trainer.signal({"sft": "demonstrations", "kto": "thumbs"}.get(stage, "all_pairs"), imitated=imitated)
    found: dict[str, Any] = {"train": [_source(fields, folder, info, name) for name in names], "signal": signal, "eval_share": 0.0}
    if limit := fields.whole("max_samples"):
        found["limit"] = limit
    held_out, size = fields.names("eval_dataset"), fields.number("val_size") or 0.0
    if held_out and evaluated:
        found["eval"] = [_source(fields, folder, info, name) for name in held_out]
    elif 0 < size < 1:
        found["eval_share"] = size
    else:
        if size:
            fields.notes.append(f"val_size = {size:g} counts records; data.eval_share is a share of the prompts and is set to 0")
        fields.notes.append("nothing is held out; data.eval_share = 0.1 shows accuracy on held-out prompts")
    return found


def _info(fields: Fields, folder: str) -> Mapping[str, Any]:
    """Returns what dataset_info.json says about data sets; empty where it is not found from here or from the configuration's folder."""
    for path in (Path(folder) / _INFO, fields.file.parent / folder / _INFO):
        if path.is_file():
            try:
                held = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise ConfigError(f"not JSON: {error}", file=str(path)) from None
            return held if isinstance(held, dict) else {}
    return {}


def _source(fields: Fields, folder: str, info: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the source that a data set's name stands for."""
    entry = info.get(name)
    if not isinstance(entry, dict):
        fields.notes.append(f"the data set {name!r} is not in a {_INFO} that was found; put the path of its file in place of {folder}/{name}")
        return {"path": f"{folder}/{name}"}
    if entry.get("columns") or entry.get("tags"):
        fields.notes.append(
            f"the data set {name!r} renames columns or tags in {_INFO}; the format is recognised from the records here, and may need data.train.0.format"
        )
    if isinstance(entry.get("file_name"), str):
        return {"path": f"{folder}/{entry['file_name']}"}
    if isinstance(entry.get("hf_hub_url"), str):
        return {"path": f"hub:{entry['hf_hub_url']}@{entry.get('split') or 'train'}"}
    fields.notes.append(f"the data set {name!r} comes from a script or another hub; put the path of a file in place of {folder}/{name}")
    return {"path": f"{folder}/{name}"}
