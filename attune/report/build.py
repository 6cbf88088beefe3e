"""Writes RUN/report.html: one file, no network, readable without scripts. What it says is read from the run's files and nowhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attune.report.evidence import Panel, Result, panels, verdict
from attune.report.source import Source, items, within
from attune.report.stage import StageView, gravest, stage_recipe, stage_view
from attune.report.words import between, clean, counted, listed, moment, number, percent, plain
from attune.runs.directory import RunDirectory, write_atomic

NAME = "report.html"


def build(run: RunDirectory) -> Path:
    """Writes the report of a run and returns its path.

    A file or key that is missing becomes a quiet line; every text of the run is escaped, and the page forbids itself any script or style but its own.

    Args:
        run: a single run, or a chain with its stages.

    Raises:
        RunError: the report cannot be written.
    """
    path = run / NAME
    write_atomic(path, page(run))
    return path


def page(run: RunDirectory) -> str:
    """Returns the report of a run as HTML."""
    return _templates().get_template("report.html").render(_told(run))


@cache
def _templates() -> Environment:
    loader = PackageLoader("attune.report")
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, finalize=clean, trim_blocks=True, lstrip_blocks=True)
    templates.filters.update(number=number, percent=percent, moment=moment, plain=plain, counted=counted)
    style, script = (resources.files("attune.report").joinpath("templates", name).read_text("utf-8") for name in ("report.css", "report.js"))
    templates.globals.update(style=Markup(style), script=Markup(script), style_hash=_hash(style), script_hash=_hash(script))
    return templates


def _told(run: RunDirectory) -> dict[str, Any]:
    """Returns everything that the templates speak of."""
    root = Source(run)
    recipe, provenance = root.recipe(), root.mapping("provenance.json")
    parts = root.stages()
    single = parts == [root]
    stages = [stage_view(part, stage_recipe(part.run.name, recipe if single else part.recipe(), recipe)) for part in parts]
    whole = None if single else stage_view(root, {})
    found, shared = _evidence(stages, whole)
    win_rate = next((result for result in found if result.kind == "win_rate"), None)
    return {
        "name": str(recipe.get("name") or run.path.resolve().name),
        "wanted": _wanted(stages, win_rate),
        "verdict": verdict(found, ended=bool(provenance.get("ended"))),
        "data_said": gravest([*stages, *([whole] if whole else [])]),
        "hero": next((panel for panel in shared if win_rate is not None and panel.marks[0].result is win_rate), None),
        "reward": _reward(shared),
        "evidence": shared,
        "single": single,
        "stages": stages,
        "whole": whole,
        "provenance": provenance,
        "took": between(provenance.get("started"), provenance.get("ended")),
        "data_files": within(provenance, "data"),
        "versions": within(provenance, "versions"),
        "machine": within(provenance, "machine"),
        "seeds": _seeds(provenance, recipe),
        "again": _again(run, provenance),
        "unclean": str(provenance.get("commit") or "").endswith("+"),
        "recipe_text": root.text("recipe.yaml"),
        "notes": list(dict.fromkeys([*root.notes, *(f"{view.name}: {note}" for view in stages if not single for note in view.notes)])),
    }


def _evidence(stages: Sequence[StageView], whole: StageView | None) -> tuple[list[Result], list[Panel]]:
    """Returns all results and their panels: of the whole run first, then of the last stage before the first's. Only results of one stage share an axis."""
    groups = [whole.results] if whole else []
    groups += [stage.results for stage in reversed(stages)]
    return [result for group in groups for result in group], [panel for group in groups for panel in panels(group)]


def _reward(shared: Sequence[Panel]) -> Panel | None:
    """Returns the reward before and after training: the gold reward where there is one, else the first mean that was taken before and after."""
    pairs = [panel for panel in shared if len(panel.marks) == 2 and panel.marks[0].result.kind == "mean"]
    return next((panel for panel in pairs if panel.marks[0].result.name.startswith("gold")), pairs[0] if pairs else None)


def _wanted(stages: Sequence[StageView], win_rate: Result | None) -> str:
    """Says what the run was for, from its recipe and its evaluation alone."""
    steps = []
    for stage in stages:
        facts = dict(stage.facts)
        if "objective" in facts:
            steps.append(f"{facts['objective'].partition(' (')[0]}" + (f" on {_kept(stage)}" if _kept(stage) else ""))
    goal = " so that its answers are preferred to those it gave before" if win_rate is not None else ""
    model = next((said for stage in stages for name, said in stage.facts if name == "model"), None)
    subject = f"Train {model}" if model else "Train a model"
    return f"{subject} by {listed(steps)}{goal}." if steps else f"{subject}{goal}."


def _kept(stage: StageView) -> str:
    """Returns how many groups a stage was trained on, in words; empty where that was not written down."""
    counts = next((dict(account.counts) for account in stage.accounts if account.purpose == "train"), {})
    return f"{counts['kept']} groups" if "kept" in counts else ""


def _seeds(provenance: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    held = [provenance.get("seed"), *(stage.get("seed") for stage in items(recipe.get("stages")) if isinstance(stage, dict))]
    return sorted({plain(seed) for seed in held if seed is not None})


def _again(run: RunDirectory, provenance: Mapping[str, Any]) -> str:
    """Returns the line that does the run again, from where it was started; empty where no command was recorded."""
    if not provenance.get("command"):
        return ""
    commit = str(provenance.get("commit") or "").rstrip("+")
    checkout = f"git checkout {commit} && " if commit else ""
    return f"{checkout}attune run {run / 'recipe.yaml'} --run-dir {run.path}-again"


def _hash(text: str) -> str:
    """Returns how a content security policy names an inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
