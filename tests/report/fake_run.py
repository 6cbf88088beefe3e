"""A chain's run directory as a real one would leave it, written by hand: sft, reward, dpo, evaluate."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from attune.runs.directory import RunDirectory

STAGES = ("sft", "reward", "dpo", "evaluate")

RECIPE = """\
name: small-world
stages:
- name: sft
  seed: 0
  model: {path: world/model, head: lm, adapter: null}
  data: {train: [{path: world/demonstrations.jsonl}]}
  objectives: [{name: sft, params: {}, weight: 1.0}]
  train: {groups_per_update: 16}
- name: reward
  seed: 0
  model: {path: 'stage:sft', head: scalar, adapter: null}
  data: {train: [{path: world/preferences.jsonl}]}
  objectives: [{name: bradley_terry, params: {}, weight: 1.0}]
  train: {groups_per_update: 16}
- name: dpo
  seed: 0
  model: {path: 'stage:sft', head: lm, adapter: {rank: 16, alpha: 32.0}}
  data: {train: [{path: world/preferences.jsonl}]}
  objectives: [{name: dpo, params: {beta: 0.1}, weight: 1.0}, {name: sft, params: {}, weight: 0.2}]
  train: {groups_per_update: 16}
- name: evaluate
  seed: 0
  model: {path: 'stage:dpo', head: lm, adapter: null}
  objectives: []
  evaluate: {baseline: 'stage:sft', reward: 'stage:reward'}
"""

PROVENANCE = {
    "started": "2026-11-20T14:58:40+00:00",
    "ended": "2026-11-20T15:02:53+00:00",
    "command": "attune demo --seed 0",
    "commit": "3f1c9a27d5b80e6a4c12f90b7de35a8841c6f02b",
    "seed": 0,
    "recipe": "9b1f4e2a77c3d058",
    "data": {"world/demonstrations.jsonl": "a3" * 32, "world/preferences.jsonl": "5e" * 32, "hub:someone/feedback@train": None},
    "versions": {"python": "3.11.7", "attune": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": None},
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
}


def mean(title: str, value: float, low: float, high: float, unit: str, better: str | None) -> dict[str, Any]:
    """Returns a mean with its interval as evals.json holds it."""
    return {"kind": "mean", "title": title, "value": value, "low": low, "high": high, "level": 0.95, "num": 200, "unit": unit, "note": "", "better": better}


EVALS: dict[str, dict[str, Any]] = {
    "win_rate": {
        "kind": "win_rate",
        "title": "win rate of the trained policy against its start",
        "value": 0.684,
        "low": 0.612,
        "high": 0.749,
        "level": 0.95,
        "num": 200,
        "unit": "",
        "note": "Judged by the reward model; ties count half; bootstrap by prompt.",
        "better": "high",
        "baseline": 0.5,
    },
    "gold_start": mean("mean score by gold, start", 0.4127, 0.377, 0.448, "points", "high"),
    "gold_trained": mean("mean score by gold, trained", 0.6312, 0.592, 0.67, "points", "high"),
    "length_start": {**mean("length of a response, start", 11.83, 11.2, 12.5, "tokens", None), "kind": "length"},
    "length_trained": {**mean("length of a response, trained", 12.4, 11.7, 13.1, "tokens", None), "kind": "length"},
}

REWARD_EVALS: dict[str, dict[str, Any]] = {
    "accuracy_reward": {
        "kind": "accuracy",
        "title": "reward: held-out pairs ranked right by the reward model",
        "value": 0.7719,
        "low": 0.702,
        "high": 0.833,
        "level": 0.95,
        "num": 171,
        "unit": "",
        "note": "",
        "better": "high",
        "before": {"value": 0.5029, "low": 0.427, "high": 0.579, "num": 171, "level": 0.95, "method": "percentile bootstrap over 58 clusters"},
        "baseline": 0.5,
    }
}

DATA: dict[str, Any] = {
    "rejected": ["world/preferences.jsonl:77: chosen: a text is not empty"],
    "joined": 59,
    "train": {
        "records": 600,
        "groups": 540,
        "kept": 521,
        "cut": 7,
        "dropped": 19,
        "reasons": {"tie between both responses": 12, "identical responses": 7},
        "ids": {"tie between both responses": [f"pref-{index}" for index in range(12)], "identical responses": [f"pref-{index}" for index in range(40, 47)]},
        "sources": ["world/preferences.jsonl"],
    },
    "eval": {
        "records": 60,
        "groups": 60,
        "kept": 58,
        "cut": 0,
        "dropped": 2,
        "reasons": {"identical responses": 2},
        "ids": {},
        "sources": ["world/preferences.jsonl"],
    },
}

DOCTOR = {
    "verdict": ["Nothing stops training.", "Preferred responses are 1.9 tokens longer: watch the length of the trained policy."],
    "findings": [
        {"name": "prefix", "level": "ok", "headline": "Every response starts where its prompt ends", "numbers": {"rows": 1042}, "records": [], "mend": None},
        {
            "name": "length",
            "level": "warn",
            "headline": "Preferred responses are longer",
            "numbers": {"difference": {"value": 1.913, "low": 1.21, "high": 2.62, "num": 521, "level": 0.95, "method": "bootstrap"}, "unit": "tokens"},
            "records": [],
            "mend": "Compare lengths before and after, or use a length-normalised objective.",
        },
        {
            "name": "contradictions",
            "level": "note",
            "headline": "Annotators disagree on 31 of 521 pairs",
            "numbers": {"kappa": 0.712, "pairs": 521},
            "records": [
                {"id": f"pref-{index}", "file": "world/preferences.jsonl", "line": index + 1, "detail": "ada, ben", "joined": []} for index in range(31)
            ],
            "mend": None,
        },
    ],
    "account": {"records": 600, "used": 600},
    "silent": ["ratings", "position"],
}


def metrics(stage: str, num: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Returns metric lines like those of a small run."""
    noise = random.Random(seed)
    lines: list[dict[str, Any]] = []
    for update in range(1, num + 1):
        done = 1 - math.exp(-3 * update / num)
        line: dict[str, Any] = {
            "update": update,
            "split": "train",
            "lr": 1e-3 * math.cos(1.4 * update / num),
            "grad_norm": 1.5 * math.exp(-done) + noise.random() / 4,
        }
        line |= {"supervised_tokens": 380 + noise.randrange(40), "tokens_per_second": 9000 + noise.randrange(900), "seconds": 0.4}
        shake = noise.gauss(0, 0.03)
        if stage == "sft":
            line |= {"loss": 3.1 - 1.9 * done + shake, "length": 11 + noise.random()}
        if stage in ("reward", "dpo"):
            line |= {"loss": math.log(2) - 0.25 * done + shake, "margin": 1.4 * done + shake * 5, "accuracy": min(1.0, 0.5 + 0.3 * done + shake)}
        if stage == "dpo":
            line |= {"loss/dpo": line["loss"] - 0.2, "loss/sft": 1.0 - 0.1 * done, "kl_to_ref": 2.2 * done + abs(shake)}
            line |= {
                "chosen_logp": -14 - 1.7 * done,
                "rejected_logp": -15 - 7.4 * done,
                "chosen_logp_change": -1.7 * done + shake * 4,
                "rejected_logp_change": -7.4 * done + shake * 9,
            }
            line |= {"chosen_length": 12.6 + noise.random(), "rejected_length": 11.1 + noise.random()}
        lines.append(line)
        if update % 20 == 0 or update == 1:
            held = {key: value for key, value in line.items() if key not in ("lr", "grad_norm", "supervised_tokens", "tokens_per_second", "seconds")}
            lines.append({**held, "split": "eval", "loss": line["loss"] + 0.02})
    return lines


def samples(num: int = 16) -> list[dict[str, Any]]:
    """Returns samples with scores, one of them not scored."""
    asked = (
        ("Sort the numbers 4 9 2 7, largest first.", "4 9 2 7", "9 7 4 2"),
        ("Repeat the word tree three times.", "tree tree", "tree tree tree"),
        ("Name the colours in: red car, blue sky.", "red car", "red, blue"),
    )
    found = []
    for index in range(num):
        prompt, start, trained = asked[index % 3]
        found.append(
            {
                "prompt": prompt,
                "responses": [
                    {"name": "start", "text": start, "score": None if index == 3 else 0.31 + index / 100},
                    {"name": "trained", "text": trained, "score": 0.82 + index / 100},
                ],
            }
        )
    return found


def write_run(path: Path, num_updates: int = 60) -> RunDirectory:
    """Writes a whole chain below `path` and returns it."""
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(RECIPE, "utf-8")
    run.write_json("provenance.json", PROVENANCE)
    run.write_json("stages.json", list(STAGES))
    for seed, stage in enumerate(run.stages):
        stage.write_json("provenance.json", {**PROVENANCE, "ended": f"2026-11-20T14:59:{10 + seed}+00:00"})
        if stage.name != "evaluate":
            stage.write_json("data.json", DATA)
            stage.append("metrics.jsonl", metrics(stage.name, num_updates, seed))
    _, reward, dpo, evaluate = run.stages
    reward.write_json("doctor.json", DOCTOR)
    reward.write_json("evals.json", REWARD_EVALS)
    dpo.write_json("doctor.json", DOCTOR)
    evaluate.write_json("evals.json", EVALS)
    evaluate.append("samples.jsonl", samples())
    return run
