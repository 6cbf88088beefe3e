"""A trained model as others load it: a plain transformers directory, or an adapter's, with a model card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attune.config.load import parse_yaml
from attune.core.errors import ConfigError, RunError
from attune.policies.folders import base_of_adapter, check_weights, foreign, read_object
from attune.recipes.card import Card, card
from attune.runs.directory import RunDirectory, write_atomic

Form = Literal["merged", "adapter"]

_DTYPES = ("float32", "bfloat16", "float16")
_VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for, the first one without being told


@dataclass(frozen=True, slots=True)
class Origin:
    """What is exported."""

    path: str
    # a model's folder or hub id, or an adapter's folder
    base: str | None
    # hub id of the model below an adapter that no run is known of, which is read from there; None: the run knows, or nobody does
    run: RunDirectory | None
    # what trained it; None: not known


def export(
    source: str | Path,
    to: str | Path,
    *,
    form: Form = "merged",
    dtype: str | None = None,
    base: str | None = None,
    license: str | None = None,
    trust_remote_code: bool = False,
) -> str:
    """Writes a directory that transformers, vLLM and others load without attune, whole or not at all.

    Args:
        source: a run's directory (of a chain: the last stage that trains), one stage's, or a model's or adapter's folder or hub id.
        to: the directory; it must not be there yet.
        form: "merged": one model, its adapter, if it has one, added to its weights in float32; "adapter": the adapter alone.
        dtype: of the weights: "float32", "bfloat16" or "float16"; None: as they are kept.
        base: hub id of the model that was trained from, for the card and the adapter; None: as the run says, a local folder only as text.
        license: a hub's identifier of a licence, for the card; None: "unknown".
        trust_remote_code: whether code that lies beside the weights may run; a run's recipe does not say so for whoever was given the run.

    Returns:
        What was written and what to know about it, in lines.

    Raises:
        ConfigError: there is no adapter, or an option that does not exist. RunError: the place is taken, or cannot be written, or the run's last
            stage has not trained to its end. AttuneError: there is no such model, or it wants to run code of its own.
    """
    if dtype not in (None, *_DTYPES):
        raise ConfigError("no such type of weights", field="dtype", value=dtype, allowed=", ".join(_DTYPES))
    place = Path(to)
    if place.exists():
        raise RunError("there is something already", file=str(place), allowed="a directory that is not there yet")
    origin = origin_of(source, form)
    aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        aside.mkdir(parents=True)
        kind = _copy_adapter(origin, aside, dtype, base) if form == "adapter" else _save(origin, aside, dtype, trust_remote_code=trust_remote_code)
        about = Card(name=place.name, form=form, kind=kind, run=origin.run, base=base or origin.base, license=license)
        write_atomic(aside / "README.md", card(about))
        notes = look_at(aside)
        os.replace(aside, place)
    except OSError as error:
        raise RunError(f"cannot write: {error.strerror or error}", file=str(place)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return "\n".join([*(f"note: {note}" for note in notes), str(place)])


def origin_of(source: str | Path, form: Form) -> Origin:
    """Returns where the weights of a run, or of a folder, lie.

    Raises:
        ConfigError: the adapter of something that has none is asked for. RunError: the run has not trained anything to its end.
    """
    path = Path(source)
    run = _trained(RunDirectory(path)) if (path / "provenance.json").is_file() else None
    if run is None and path.name in ("model", "adapter") and (path.parent / "provenance.json").is_file():
        run = RunDirectory(path.parent)  # a run's own folder
        found = path
    else:
        found = path if run is None else run / ("adapter" if form == "adapter" else "model")
    adapter = _json(found / "adapter_config.json")
    if form == "adapter" and not adapter:
        raise ConfigError("there is no adapter", field="--adapter", value=str(source), allowed="a run that trained one (model.adapter), or an adapter's folder")
    base = base_of_adapter(str(found)) if run is None and form == "merged" else None  # an adapter alone goes without it: nothing shows where it lies
    return Origin(str(found) if found.exists() else str(source), None if base is None or Path(base).is_dir() else base, run)


def look_at(folder: Path) -> list[str]:
    """Returns what somebody who loads an exported directory should know: what transformers, vLLM or llama.cpp would stumble over.

    Raises:
        RunError: a file that must be there is not, or weights do not lie in safetensors.
    """
    notes = []
    adapter = _json(folder / "adapter_config.json")
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    index = _json(folder / "model.safetensors.index.json")
    named = set(index["weight_map"].values()) if index else {"adapter_model.safetensors" if adapter else "model.safetensors"}
    if set(weights) != named or any(folder.glob("*.bin")):
        raise RunError("the weights are not whole, or not in safetensors", file=str(folder), value=weights, allowed=", ".join(sorted(named)))
    if adapter:
        notes += _about_adapter(adapter)
    else:
        config = _json(folder / "config.json")
        if not config.get("architectures"):
            raise RunError("the configuration names no architecture", file=str(folder / "config.json"))
        if "auto_map" in config:
            notes.append("the model comes with code of its own: transformers and vLLM run it with trust_remote_code only, llama.cpp cannot convert it")
        if "ForCausalLM" in config["architectures"][0] and not _json(folder / "generation_config.json").get("eos_token_id"):
            raise RunError("the generation configuration names no stop token", file=str(folder / "generation_config.json"))
    said = _json(folder / "tokenizer_config.json")
    if not (folder / "chat_template.jinja").is_file() and "chat_template" not in said:
        notes.append("the tokenizer has no chat template: serve completions, not chats")
    return notes


def _about_adapter(config: Mapping[str, Any]) -> list[str]:
    notes = []
    path, rank = str(config.get("base_model_name_or_path")), int(config.get("r", 0))
    if Path(path).exists() or path.count("/") != 1:
        notes.append(f"the adapter names a local folder as its base ({path}): others cannot load it; --base OWNER/NAME names one on a hub")
    if rank > _VLLM_RANKS[0]:
        room = next((size for size in _VLLM_RANKS if size >= rank), None)
        notes.append(f"the adapter's rank is {rank}: vLLM " + (f"needs --max-lora-rank {room}" if room else f"takes {_VLLM_RANKS[-1]} at most; export merged"))
    if config.get("modules_to_save"):
        notes.append(
            f"layers beside the adapter were trained too ({', '.join(config['modules_to_save'])}): vLLM does not read them from an adapter; export merged"
        )
    return notes


def _trained(run: RunDirectory) -> RunDirectory:
    """Returns the last stage that trains; an earlier one is never taken for it, whether or not the run came that far."""
    training = [stage for stage in run.stages if _trains(run, stage)]
    last = training[-1] if training else run
    if not (last.model / "config.json").is_file() or last.read_json("outcome.json") is None:
        raise RunError("the run holds no trained model", file=str(last.path), mend="it may have been interrupted: --resume goes on with it")
    return last


def _trains(run: RunDirectory, stage: RunDirectory) -> bool:
    """Returns whether a stage has objectives: its own recipe says so once it has begun, the chain's before."""
    stages = _recipe(run).get("stages")
    planned = [one for one in stages if isinstance(one, dict) and (stage is run or one.get("name") == stage.name)] if isinstance(stages, list) else []
    return any(one.get("objectives") for one in (_recipe(stage), *planned))


def _recipe(run: RunDirectory) -> dict[str, Any]:
    path = run / "recipe.yaml"
    said = parse_yaml(path.read_text("utf-8"), file=str(path)) if path.is_file() else {}
    return said if isinstance(said, dict) else {}


def _save(origin: Origin, folder: Path, dtype: str | None, *, trust_remote_code: bool) -> str:
    """Writes the whole model, its adapter merged in float32 and then put into the type asked for; returns its kind."""
    from transformers.utils import logging

    from attune.policies.causal import DTYPES, load
    from attune.policies.heads import VALUE_FILE

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    adapter = _json(Path(origin.path) / "adapter_config.json")
    model = base_of_adapter(origin.path) or origin.path
    config = _configuration(model, trust_remote_code=trust_remote_code)
    scalar = adapter.get("task_type") == "SEQ_CLS" if adapter else "ForSequenceClassification" in "".join(config.architectures or ())
    kept = str(config.get_text_config().dtype or "float32").removeprefix("torch.")
    wanted = dtype or (kept if kept in DTYPES else "float32")
    policy = load(origin.path, dtype="float32" if adapter else wanted, head="scalar" if scalar else "lm", layout="plain", trust_remote_code=trust_remote_code)
    if adapter:
        policy = policy.with_module(policy.module.merge_and_unload().to(DTYPES[wanted]))
    policy.save(str(folder))
    (folder / VALUE_FILE).unlink(missing_ok=True)  # of training alone; whoever reads every safetensors file would stumble over it
    _also_for_older(folder)
    return policy.kind


def _copy_adapter(origin: Origin, folder: Path, dtype: str | None, base: str | None) -> str:
    """Writes the adapter and its tokenizer; returns the kind of what it makes of its base."""
    from safetensors.torch import load_file, save_file

    from attune.policies.causal import DTYPES

    source = Path(origin.path)
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja", ".model", ".txt"):
            shutil.copyfile(path, folder / path.name)
    with foreign("the adapter", str(source)):
        weights = load_file(source / "adapter_model.safetensors")
    weights = {name: weight if dtype is None else weight.to(DTYPES[dtype]) for name, weight in weights.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = _json(source / "adapter_config.json")
    if base is not None:
        write_atomic(folder / "adapter_config.json", json.dumps({**config, "base_model_name_or_path": base}, indent=2, sort_keys=True) + "\n")
    _also_for_older(folder)
    return "scalar" if config.get("task_type") == "SEQ_CLS" else "lm"


def _configuration(path: str, *, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    check_weights(path)
    with foreign("the model", path):
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)


def _also_for_older(folder: Path) -> None:
    """Says in the words of transformers 4 what it would not find, or silently read as a default, in files of transformers 5, which reads both.

    A tokenizer without a class of its own is called TokenizersBackend there, and further special tokens are a list under another name; the base of
    rotary positions has moved (unread, it would be 10,000, whatever the model was trained with). What serves models often runs transformers 4.
    """
    path = folder / "tokenizer_config.json"
    if tokenizer := _json(path):
        if tokenizer.get("tokenizer_class") == "TokenizersBackend":
            tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(tokenizer.get("extra_special_tokens"), list):
            tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
        write_atomic(path, json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n")
    path = folder / "config.json"
    config = _json(path)
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope and "rope_theta" not in config:
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        config |= {"rope_theta": rope["rope_theta"], **({} if scaling.get("rope_type") == "default" else {"rope_scaling": scaling})}
        write_atomic(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _json(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
