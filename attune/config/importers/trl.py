"""Recipes from TRL's configurations: DPO, CPO and SimPO, ORPO, KTO, reward and SFT, as `trl dpo --config` takes them, and the alignment handbook's."""

from __future__ import annotations

from typing import Any

from attune.config.importers import _machine, _trainer
from attune.config.importers._fields import Fields, Imported
from attune.core.errors import ConfigError

NAME = "TRL"
SIGNS = frozenset({"dataset_name", "datasets", "dataset_mixer", "dataset_mixture", "loss_type", "model_name_or_path"})

_LR = {"dpo": 1e-6, "cpo": 1e-6, "orpo": 1e-6, "kto": 1e-6, "reward": 1e-4, "sft": 2e-5}
"""TRL's default learning rate of each trainer."""

_TOLD_BY = {
    "kto": {"desirable_weight", "undesirable_weight"},
    "cpo": {"cpo_alpha", "simpo_gamma", "gamma_beta_ratio", "alpha"},
    "reward": {"center_rewards_coefficient"},
    "dpo": {
        "precompute_ref_log_probs",
        "rpo_alpha",
        "sync_ref_model",
        "reference_free",
        "ref_model",
        "f_divergence_type",
        "ld_alpha",
        "loss_weights",
        "use_weighting",
    },
    "sft": {"assistant_only_loss", "completion_only_loss", "dataset_text_field", "packing", "eos_token", "max_seq_length", "neftune_noise_alpha"},
}
"""Keys that only one method has."""

_LOSSES = {"sigmoid": "dpo", "hinge": "dpo", "ipo": "dpo", "simpo": "cpo", "kto": "kto", "apo_zero_unpaired": "kto", "nll": "sft", "dft": "sft"}
_LOCAL = (".json", ".jsonl", ".parquet", ".csv", ".gz", ".zst")


def recipe(fields: Fields, method: str | None) -> Imported:
    """Returns the recipe of a TRL configuration; see import_config."""
    if method is not None and method not in _LR:
        raise ConfigError("no such method", field="method", value=method, allowed=", ".join(_LR))
    kind = method or _kind(fields)
    drops = fields.flag("disable_dropout", default=kind != "sft")
    objectives = _objectives(fields, kind)
    path = fields.text("model_name_or_path")
    if path is None:
        raise ConfigError("a required field is missing", file=str(fields.file), field="model_name_or_path")
    held = _machine.quantize(fields, adapted=fields.flag("use_peft"))
    train = _trainer.train(fields, dropout=not drops, quantized=bool(held))
    evaluated = _trainer.evaluates(fields, train)
    model: dict[str, Any] = {
        "path": path,
        "head": "scalar" if kind == "reward" else "lm",
        **_machine.precision(fields, half=False, default=True),
        **held,
        "trust_remote_code": fields.flag("trust_remote_code"),
        **_chat(fields),
        **_lengths(fields, kind),
    }
    if fields.flag("use_peft"):
        model["adapter"] = _adapter(fields, acts=not drops)
    else:
        for key in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
            fields.take(key)
    return fields.finish(
        {
            "name": _trainer.name(fields),
            "seed": _trainer.seed(fields),
            "model": model,
            "data": _data(fields, kind, evaluated=evaluated, imitated=len(objectives) > 1),
            "objectives": objectives,
            **_reference(fields, kind, model=path, objective=objectives[0]["name"]),
            "optim": _trainer.optim(fields, lr=_LR[kind], sharded=train["parallel"] == "fsdp"),
            "train": train,
        }
    )


def _reference(fields: Fields, kind: str, *, model: str, objective: str) -> dict[str, Any]:
    """Returns the section `reference` where the file asks for one that moves (TR-DPO), or names a model."""
    if kind not in ("dpo", "kto") or not fields.flag("sync_ref_model"):
        fields.take("ref_model_mixup_alpha", "ref_model_sync_steps")  # without sync_ref_model they do nothing
        return _trainer.reference(fields, model=model, objective=objective)
    start = fields.text("ref_model")
    if start not in (None, model):
        fields.notes.append(f"ref_model = {start!r} is left out: a reference that moves begins at the model itself here")
    alpha, every = fields.number("ref_model_mixup_alpha", default=0.6), fields.whole("ref_model_sync_steps", default=512)
    return {"reference": {"source": "refreshed", "alpha": alpha, "every": every}}


def _kind(fields: Fields) -> str:
    """Returns which command a file is for: by keys that one method has, by its loss, else by the words in its names."""
    told = [kind for kind, keys in _TOLD_BY.items() if any(key in fields for key in keys)]
    words = f"{fields.file.stem} {fields.raw.get('output_dir') or ''} {fields.raw.get('run_name') or ''}".lower().replace("simpo", "cpo")
    named = [kind for kind in _LR if kind in words]
    losses = fields.raw.get("loss_type")
    if isinstance(losses, list):  # only the DPO trainer takes several
        told.append("dpo")
    elif isinstance(losses, str) and losses in _LOSSES:
        # the CPO trainer has losses of these names too
        told.append("cpo" if _LOSSES[losses] == "dpo" and "cpo" in (*told, *named) else _LOSSES[losses])
    told = told or named
    if len(set(told)) == 1:
        return told[0]
    found = f"it looks like {' and '.join(sorted(set(told)))}" if told else "no key tells"
    mend = f"name the method ({', '.join(_LR)})"
    raise ConfigError(f"cannot tell which of {NAME}'s trainers this is for: {found}", file=str(fields.file), mend=mend)


def _objectives(fields: Fields, kind: str) -> list[dict[str, Any]]:
    makers = {"dpo": _dpo, "cpo": _simpo, "orpo": _orpo, "kto": _kto, "reward": _reward, "sft": _sft}
    return makers[kind](fields)


def _dpo(fields: Fields) -> list[dict[str, Any]]:
    losses = fields.names("loss_type") or ["sigmoid"]
    for loss in losses:
        if loss not in ("sigmoid", "ipo", "sft"):
            raise fields.wrong("loss_type", loss, "sigmoid, ipo, or one of them with sft")
    main = [loss for loss in losses if loss != "sft"]
    if len(main) != 1:
        raise fields.wrong("loss_type", losses, "one of sigmoid and ipo")
    if (fields.text("f_divergence_type") or "reverse_kl") not in ("reverse_kl", "FDivergenceType.REVERSE_KL"):
        raise fields.wrong("f_divergence_type", fields.raw["f_divergence_type"], "reverse_kl")
    weights = _weights(fields, losses)
    # the loss sft and rpo_alpha are the same term, and add up where both are given
    weight, key = (fields.number("rpo_alpha") or 0.0) + weights.get("sft", 0.0), "the loss sft" if "sft" in weights else "rpo_alpha"
    imitated = [_trainer.imitation(fields, key=key, weight=weight, per="token")] if weight else []
    beta, smoothing = fields.number("beta", default=0.1), fields.number("label_smoothing") or 0.0
    objective: dict[str, Any] = {"name": "dpo", "params": {"beta": beta, "label_smoothing": smoothing}}
    if main == ["ipo"]:
        fields.notes.append(
            "loss_type ipo averages log-probabilities over tokens there, as the preset ipo_mean does here; plain ipo sums them. Their beta is our tau"
        )
        objective = {"name": "ipo_mean", "params": {"tau": beta}}
    if weights[main[0]] != 1:
        objective["weight"] = weights[main[0]]
    return [objective, *imitated]


def _weights(fields: Fields, losses: list[str]) -> dict[str, float]:
    """Returns loss -> its weight in the sum."""
    said = fields.take("loss_weights")
    if said is None:
        return dict.fromkeys(losses, 1.0)
    right = isinstance(said, list) and len(said) == len(losses) and all(isinstance(one, (int, float)) and one > 0 for one in said)
    if not right:
        raise fields.wrong("loss_weights", said, f"a positive number for each of {', '.join(losses)}")
    return dict(zip(losses, map(float, said), strict=True))


def _simpo(fields: Fields) -> list[dict[str, Any]]:
    handbook = "gamma_beta_ratio" in fields
    loss = fields.text("loss_type") or "sigmoid"
    if not handbook and loss != "simpo":
        raise fields.wrong("loss_type", loss, "simpo (CPO itself, which has no counterpart here, is the other trainer of this configuration)")
    beta = fields.number("beta", default=2.0 if handbook else 0.1)
    assert beta is not None
    ratio, gamma = fields.number("gamma_beta_ratio"), fields.number("simpo_gamma", default=None if handbook else 0.5)
    weight = fields.number("sft_weight") if handbook else fields.number("cpo_alpha", default=1.0)
    key = "sft_weight" if handbook else "cpo_alpha (SimPO itself is cpo_alpha = 0)"
    imitated = [_trainer.imitation(fields, key=key, weight=weight, per="token")] if weight else []
    if ratio is not None:
        gamma = ratio * beta
        fields.notes.append(f"gamma_beta_ratio = {ratio:g} is gamma / beta; here gamma is the margin itself, {gamma:g}")
    if fields.number("label_smoothing"):
        raise fields.wrong("label_smoothing", fields.raw["label_smoothing"], "0, for simpo")
    return [{"name": "simpo", "params": {"beta": beta, "gamma": gamma}}, *imitated]


def _orpo(fields: Fields) -> list[dict[str, Any]]:
    fields.notes.append(
        "ORPO's imitation runs over prompt and response and is a mean over all tokens of a batch there; here over the response, then over pairs"
    )
    return [{"name": "orpo", "params": {"lambda_or": fields.number("beta", default=0.1)}}]


def _kto(fields: Fields) -> list[dict[str, Any]]:
    loss = fields.text("loss_type") or "kto"
    if loss != "kto":
        raise fields.wrong("loss_type", loss, "kto")
    fields.notes.append("the reference point is a mean over mismatched rows of the whole update here, not of one device's batch")
    params = {"lambda_d": fields.number("desirable_weight") or 1.0, "lambda_u": fields.number("undesirable_weight") or 1.0}
    return [{"name": "kto", "params": {"beta": fields.number("beta", default=0.1), **params}}]


def _reward(fields: Fields) -> list[dict[str, Any]]:
    return [{"name": "bradley_terry", "params": {"centring": fields.number("center_rewards_coefficient") or 0.0}}]


def _sft(fields: Fields) -> list[dict[str, Any]]:
    if fields.take("assistant_only_loss", "completion_only_loss") is not True:
        fields.notes.append("without assistant_only_loss or completion_only_loss, prompt tokens may be trained on there; here only responses are")
    if (fields.text("loss_type") or "nll") != "nll":
        raise fields.wrong("loss_type", fields.raw["loss_type"], "nll")
    return [{"name": "sft", "params": {"per": "token"}}]


def _chat(fields: Fields) -> dict[str, str]:
    """Returns model.chat where the file names a template of Jinja; the name of another tokenizer stays unused."""
    path = fields.raw.get("chat_template_path")
    if not isinstance(path, str) or not path.endswith((".jinja", ".jinja2")):
        return {}
    return {"chat": fields.take("chat_template_path")}


def _lengths(fields: Fields, kind: str) -> dict[str, Any]:
    total = fields.whole("max_length", "max_seq_length")
    if total is None and not (fields.raw.keys() & {"max_length", "max_seq_length"}):
        total = fields.whole("max_length", default=1024)
    prompt, response = fields.whole("max_prompt_length"), fields.whole("max_completion_length", "max_target_length")
    if (fields.text("truncation_mode") or "keep_start") == "keep_end" and total is not None:
        fields.notes.append(
            "truncation_mode = keep_end cuts the start of prompt and response together; here the prompt keeps its end and the response its start"
        )
    return _trainer.lengths(fields, total=total, prompt=prompt, response=response, overlong="drop" if kind == "reward" else "cut")


def _adapter(fields: Fields, *, acts: bool) -> dict[str, Any]:
    rank, alpha, dropout = fields.whole("lora_r", default=16), fields.number("lora_alpha", default=32), fields.number("lora_dropout", default=0.05)
    assert rank is not None
    assert alpha is not None
    assert dropout is not None
    targets: Any = fields.names("lora_target_modules")
    if not targets:
        fields.notes.append(
            "lora_target_modules is not set: peft chooses by architecture there (often only some projections of attention); here all linear layers"
        )
    if not targets or targets == ["all-linear"]:
        targets = "all-linear"
    return _trainer.adapter(fields, rank=rank, alpha=alpha, dropout=dropout, targets=targets, acts=acts)


def _data(fields: Fields, kind: str, *, evaluated: bool, imitated: bool) -> dict[str, Any]:
    signal = _trainer.signal({"sft": "demonstrations", "kto": "thumbs"}.get(kind, "all_pairs"), imitated=imitated)
    if kind == "kto":
        fields.notes.append("labels are read from ratings (thumbs); if your data are pairs, set data.signal to win_lose")
    train, held_out, share = _sources(fields)
    found: dict[str, Any] = {"train": train, "signal": signal, "eval_share": 0.0}
    if evaluated and held_out:
        found["eval"] = held_out
    elif share:
        found["eval_share"] = share
    else:
        fields.notes.append("nothing is held out, as in the file; data.eval_share = 0.1 shows accuracy on held-out prompts")
    return found


def _sources(fields: Fields) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Returns sources to train on, sources to evaluate on, and the share that is split off."""
    mixture = fields.take("dataset_mixture") or {}
    listed = fields.take("datasets") or (mixture.get("datasets") if isinstance(mixture, dict) else None)
    share = fields.number("test_split_size") or (mixture.get("test_split_size") if isinstance(mixture, dict) else None) or 0.0
    split, test = fields.text("dataset_train_split") or "train", fields.text("dataset_test_split") or "test"
    mixer, name = fields.take("dataset_mixer"), fields.text("dataset_name")
    if listed:
        if not isinstance(listed, list) or not all(isinstance(one, dict) and isinstance(one.get("path", one.get("id")), str) for one in listed):
            raise fields.wrong("datasets", listed, "a list of mappings with `path`")
        return [source for one in listed for source in _listed(fields, one)], [], share
    if mixer:
        return _mixed(fields, mixer)
    if name is None:
        raise ConfigError("a required field is missing", file=str(fields.file), field="dataset_name")
    if part := fields.text("dataset_config"):
        fields.notes.append(f"not carried over: dataset_config = {part!r}: a source names a data set and a split, not a part")
    held_out = [] if _is_local(name) else [{"path": _path(name, test)}]
    return [{"path": _path(name, split)}], held_out, share


def _listed(fields: Fields, one: dict[str, Any]) -> list[dict[str, Any]]:
    path, files = one.get("path", one.get("id")), one.get("data_files")
    for key in ("name", "config", "columns", "weight"):
        if one.get(key):
            fields.notes.append(f"not carried over: {key} = {one[key]!r} of the data set {path}")
    if isinstance(files, (str, list)):
        return [{"path": file} for file in ([files] if isinstance(files, str) else files)]
    return [{"path": _path(str(path), one.get("split") or "train")}]


def _mixed(fields: Fields, mixer: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    splits = fields.names("dataset_splits") or ["train"]
    if not isinstance(mixer, dict) or not mixer:
        raise fields.wrong("dataset_mixer", mixer, "a mapping from data sets to shares")
    for name, share in mixer.items():
        if share != 1:
            fields.notes.append(f"dataset_mixer takes {share} of {name} there; all of it is used here (data.limit takes the first so many groups)")
    trains, tests = [split for split in splits if "test" not in split], [split for split in splits if "test" in split]
    held_out = [{"path": _path(name, split)} for name in mixer for split in tests]
    return [{"path": _path(name, split)} for name in mixer for split in trains], held_out, 0.0


def _is_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith(_LOCAL)


def _path(name: str, split: str) -> str:
    return name if _is_local(name) else f"hub:{name}@{split}"
