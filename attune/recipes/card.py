"""A model card: what a model was made from, how, on what, and how well that was measured; nothing in it is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import yaml

from attune.config.recipe import OptimConfig, TrainConfig
from attune.core.spec import Method, method, methods
from attune.data.files import HUB
from attune.ops.intervals import show
from attune.recipes.describe import summary
from attune.runs.directory import RunDirectory

UNKNOWN = "unknown"
"""The hubs' identifier for a licence that nobody has stated."""

_BY_PROMPT = "held out by prompt"  # stands among a run's sources for prompts taken from those it trains on


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card is written about."""

    name: str
    form: Literal["merged", "adapter"]
    kind: str
    # lm or scalar
    run: RunDirectory | None
    # what trained it; None: not known, and the card says so
    base: str | None
    # hub id of the model that was trained from; None: as the run says
    license: str | None


@dataclass(frozen=True, slots=True)
class _Start:
    """The model that training began with."""

    path: str
    # "" where it is not known
    lies: Literal["hub", "folder", "unknown"]

    @property
    def hub_id(self) -> str | None:
        """What others can load it by."""
        return self.path if self.lies == "hub" else None


def card(about: Card) -> str:
    """Returns README.md: YAML front matter that a hub reads, then Markdown."""
    stage = _stage(about.run)
    base = _Start(about.base, "hub" if _as_hub_id(about.base) else "folder") if about.base else _start(about.run, stage)
    known = {name: found for name in _names(stage) for found in _method(name)}
    front = yaml.safe_dump(_front(about, stage, base), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front}---", f"# {about.name}", _lead(about, known, base), _load(about)]
    if about.run is None or not stage:
        parts.append("How this model was trained is not known: it was exported from a directory that is no run of attune.")
    else:
        parts += [_methods(known, stage), _data(about.run), _settings(stage, known), _evaluation(about.run), _limits(about.run), _origins(about.run)]
    parts.append(_license(about, base))
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(about: Card, stage: Mapping[str, Any], base: _Start) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "peft" if about.form == "adapter" else "transformers"}
    if base.hub_id:
        front |= {"base_model": base.hub_id, "base_model_relation": "adapter" if about.form == "adapter" else "finetune"}
    front["pipeline_tag"] = "text-generation" if about.kind == "lm" else "text-classification"
    front["tags"] = ["attune", *_names(stage), *(["reward-model"] if about.kind == "scalar" else [])]
    hubs = [path.removeprefix(HUB).partition("@")[0].partition(":")[0] for path in _paths(stage) if path.startswith(HUB)]
    if hubs:
        front["datasets"] = list(dict.fromkeys(hubs))
    front["license"] = about.license or UNKNOWN
    return front


def _lead(about: Card, known: Mapping[str, Method], base: _Start) -> str:
    what = {"lm": "A language model", "scalar": "A reward model: it gives a response one score"}[about.kind]
    what = what if about.form == "merged" else f"A LoRA adapter. {what}, as weights to add to those of its base"
    how = f", trained with {_and(list(known))}" if known else ""
    place = {"hub": "", "folder": "a local folder called ", "unknown": "a model called "}[base.lies]
    below = f" from {place}`{base.hub_id or Path(base.path).name}`" if base.path else ""
    return f"{what}{how}{below}. Made with attune."


def _load(about: Card) -> str:
    task = "CausalLM" if about.kind == "lm" else "SequenceClassification"
    auto = f"Auto{'Peft' if about.form == 'adapter' else ''}ModelFor{task}"
    imports = (
        [f"from peft import {auto}", "from transformers import AutoTokenizer"]
        if about.form == "adapter"
        else [f"from transformers import {auto}, AutoTokenizer"]
    )
    lines = [*imports, "", f'model = {auto}.from_pretrained("{about.name}")']
    return "\n".join(["```python", *lines, f'tokenizer = AutoTokenizer.from_pretrained("{about.name}")', "```"])


def _methods(known: Mapping[str, Method], stage: Mapping[str, Any]) -> str:
    lines = ["## Method", ""]
    weights = {one["name"]: one for one in stage["objectives"]}
    for name, found in known.items():
        paper = found.spec.paper
        link = f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else "not on arXiv"
        params = {**found.params, **weights[name].get("params", {})}
        said = f" with {', '.join(f'{key} = {value}' for key, value in params.items())}" if params else ""
        share = f", weight {weights[name]['weight']:g}" if len(known) > 1 else ""
        where = ", ".join(part for part in (link, paper.equation) if part)
        lines.append(f"- **{name}**{said}{share}: {summary(found)} {paper.title} ({paper.year}; {where}).")
        lines += [f"  - departs from the paper: {deviation}" for deviation in found.spec.deviations]
    return "\n".join(lines)


def _data(run: RunDirectory) -> str:
    said = run.read_json("data.json") or {}
    hashes = _upper(run, "provenance.json").get("data") or {}
    lines = ["## Data", ""]
    for name, title in (("train", "Trained on"), ("eval", "Measured on")):
        part = said.get(name)
        if not isinstance(part, Mapping):
            continue
        streamed = f" (streamed: the account is of the records met, of {part['records']:,} in all)" if "streamed" in part else ""
        left_out = f", {part['dropped']:,} left out" if part.get("dropped") else ""
        lines.append(f"- {title} {part['kept']:,} groups with {part['responses']:,} responses{left_out}{streamed}:")
        for source in part["sources"]:
            mark = hashes.get(source)
            lines.append(f"  - {_source(source)}" + (f", SHA-256 `{mark}`" if mark and ":" not in mark else ""))
        lines += [f"  - {reason}: {num:,}" for reason, num in part["reasons"].items()]
    return "\n".join(lines) if len(lines) > 2 else ""


def _settings(stage: Mapping[str, Any], known: Mapping[str, Method]) -> str:
    """The settings that differ from the defaults, and those that everybody asks for; of a reference where an objective reads one."""
    rows: dict[str, Any] = {}
    optim, loop, model = stage.get("optim", {}), stage.get("train", {}), stage.get("model", {})
    for name in ("name", "lr", "schedule", "warmup", "weight_decay", "clip_norm", "betas"):
        rows[f"optim.{name}"] = optim.get(name, OptimConfig.model_fields[name].default if name in OptimConfig.model_fields else None)
    for name in ("epochs", "updates", "groups_per_update", "dropout"):
        rows[f"train.{name}"] = loop.get(name, TrainConfig.model_fields[name].default)
    for name in ("dtype", "compute", "max_prompt_tokens", "max_response_tokens", "overlong"):
        rows[f"model.{name}"] = model.get(name)
    adapter = model.get("adapter") or {}
    rows |= {f"model.adapter.{name}": adapter.get(name) for name in ("rank", "alpha", "dropout", "targets") if adapter}
    if any("ref_logp" in found.spec.needs for found in known.values()):
        rows["reference.source"] = stage.get("reference", {}).get("source")
    rows["seed"] = stage.get("seed")
    return "\n".join(
        ["## Settings", "", "| setting | value |", "| --- | --- |", *(f"| `{name}` | {value} |" for name, value in rows.items() if value is not None)]
    )


def _evaluation(run: RunDirectory) -> str:
    said = [run.read_json("evals.json"), *(other.read_json("evals.json") for other in _comparisons(run))]
    evals = [held for held in chain.from_iterable((one or {}).values() for one in said) if isinstance(held, Mapping) and "value" in held]
    if not evals:
        return "## Evaluation\n\nNothing was measured."
    lines = ["## Evaluation", "", "| what | value | interval | of | before training |", "| --- | ---: | --- | ---: | ---: |"]
    for held in evals:
        interval = (
            "unknown" if held.get("low") is None else f"{held.get('level', 0.95):.0%}: {show(held['low'])} to {show(held['high'])}, {held.get('method', '')}"
        )
        before = show(held["before"]["value"]) if isinstance(held.get("before"), Mapping) else ""
        lines.append(f"| {_cell(held['title'])} ({held.get('unit', '')}) | {show(held['value'])} | {_cell(interval)} | {held.get('num', '')} | {before} |")
    return "\n".join(lines)


def _limits(run: RunDirectory) -> str:
    lines = [
        "## Limits",
        "",
        "- Only what stands under Evaluation was measured. Safety, truthfulness, bias and anything outside the training data's kind of prompt were not.",
        "- What the feedback got wrong, the model has learned. Of the training data the doctor said:",
    ]
    findings = [one for one in (run.read_json("doctor.json") or {}).get("findings", ()) if one.get("level") in ("warn", "error")]
    lines += [f"  - {one['name']}: {one['headline']}" for one in findings] or ["  - nothing that speaks against training on them."]
    return "\n".join(lines)


def _origins(run: RunDirectory) -> str:
    said = _upper(run, "provenance.json")
    versions = ", ".join(f"{name} {version}" for name, version in (said.get("versions") or {}).items() if version)
    outcome = run.read_json("outcome.json") or {}
    parts = [f"{outcome['updates']} updates" if "updates" in outcome else "", f"begun {said['started']}" if said.get("started") else "", f"with {versions}"]
    return f"## Origin\n\n{', '.join(part for part in parts if part)}. Fingerprint of the recipe: `{said.get('recipe')}`."


def _license(about: Card, base: _Start) -> str:
    if about.license is not None:
        return f"## Licence\n\n`{about.license}`, as whoever exported the model says."
    below = f"of `{base.hub_id}`" if base.hub_id else "of the model it was trained from"
    return f"## Licence\n\nNot stated. The licence {below} and the terms of the data apply; check both before you share this model."


def _stage(run: RunDirectory | None) -> Mapping[str, Any]:
    """Returns the resolved recipe of the one stage that trained the model; empty where it is not known."""
    if run is None or not (run / "recipe.yaml").is_file():
        return {}
    said = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    stages = said.get("stages", [said])
    return dict(next((stage for stage in stages if stage.get("objectives")), {}))


def _comparisons(run: RunDirectory) -> list[RunDirectory]:
    """Returns the stages of the same chain that only compare this one's model."""
    whole = RunDirectory(run.path.parent)
    others = [RunDirectory(whole / name) for name in (whole.read_json("stages.json") or ()) if name != run.name]
    said = [(other, yaml.safe_load((other / "recipe.yaml").read_text("utf-8"))) for other in others if (other / "recipe.yaml").is_file()]
    return [other for other, stage in said if not stage.get("objectives") and stage["model"]["path"] == f"stage:{run.name}"]


def _start(run: RunDirectory | None, stage: Mapping[str, Any]) -> _Start:
    """Returns the model that training began with; of a chain's stage, that of the stage where the chain began.

    Whether its path is a folder or a hub's OWNER/NAME only the run saw; the two look alike, and here the path may mean something else.
    """
    path = str(stage.get("model", {}).get("path", ""))
    while run is not None and path.startswith("stage:"):
        path = str(_stage(RunDirectory(run.path.parent / path.removeprefix("stage:"))).get("model", {}).get("path", ""))
    lies = _upper(run, "provenance.json")["models"].get(path) if run is not None else None
    return _Start(path, lies if lies == "folder" or (lies == "hub" and _as_hub_id(path)) else "unknown")


def _upper(run: RunDirectory, name: str) -> Mapping[str, Any]:
    """Returns a file of the run with what only the chain it is a stage of knows."""
    own, whole = run.read_json(name) or {}, RunDirectory(run.path.parent).read_json(name) or {}
    return {**whole, **own, **{key: {**(whole.get(key) or {}), **(own.get(key) or {})} for key in ("data", "models")}}


def _as_hub_id(path: str) -> bool:
    """Returns whether a path that is no folder, or is said to be none, has the form of a hub's OWNER/NAME."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~"))


def _names(stage: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in stage.get("objectives", ())]


def _method(name: str) -> Sequence[Method]:
    """Returns the objective of this name, unless it came from a package that is not here any more."""
    return [method(name)] if name in {one.name for one in methods()} else []


def _paths(stage: Mapping[str, Any]) -> list[str]:
    return [source["path"] for source in (stage.get("data") or {}).get("train", ())]


def _source(path: str) -> str:
    return f"`{path.removeprefix(HUB)}` on the hub" if path.startswith(HUB) else path if path == _BY_PROMPT else f"`{Path(path).name}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
