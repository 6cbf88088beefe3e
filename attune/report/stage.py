"""One stage of a run as the page shows it: what was trained on what, the doctor's findings, the curves and the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attune.report.curves import Curves, curves
from attune.report.evidence import Result, results, unread
from attune.report.source import Source, items, within
from attune.report.words import between, finite, number, plain

LEVELS = ("error", "warn", "note", "ok")
"""The doctor's levels, the gravest first."""

MOST_SAMPLES, MOST_CHARACTERS, MOST_RECORDS = 12, 4000, 20
"""What one page shows of samples, of each text, and of each list of records; the rest stays in the run's files and is counted."""

_TABLE = 12  # entries of a finding's table up to which they are shown


@dataclass(frozen=True, slots=True)
class Account:
    """What was read for one purpose (training or evaluation)."""

    purpose: str
    counts: tuple[tuple[str, str], ...]
    # what, how many
    reasons: tuple[tuple[str, str, str], ...]
    # reason, how many, which
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the doctor found."""

    level: str
    name: str
    headline: str
    numbers: tuple[tuple[str, str], ...]
    records: str
    mend: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One response of a sample."""

    name: str
    text: str
    more: int
    # characters that are left out
    score: str
    best: bool
    # whether it has the highest score of those that have one


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its answers side by side."""

    prompt: str
    more: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """Everything the page says about a stage."""

    name: str
    facts: tuple[tuple[str, str], ...]
    accounts: tuple[Account, ...]
    rejected: tuple[str, ...]
    # records that could not be read, each with its reason; at most MOST_RECORDS
    num_rejected: int
    verdict: tuple[str, ...]
    findings: tuple[Finding, ...]
    silent: str
    # probes that had nothing to look at
    diagnosed: bool
    curves: Curves
    results: tuple[Result, ...]
    samples: tuple[Sample, ...]
    num_samples: int
    notes: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether something was to be trained, as far as is known."""
        return not self.facts or any(name == "objective" for name, _ in self.facts)


def stage_view(source: Source, recipe: Mapping[str, Any]) -> StageView:
    """Reads one stage.

    Args:
        source: the stage's directory.
        recipe: the stage's part of the resolved recipe; empty where it is not known.
    """
    data, doctor, evals = source.mapping("data.json"), source.mapping("doctor.json"), source.mapping("evals.json")
    drawn = curves(source.lines("metrics.jsonl"))
    samples = source.lines("samples.jsonl")
    source.notes += [f"evals.json: {name!r} holds no finite value and is left out" for name in unread(evals)]
    return StageView(
        name=source.run.name,
        facts=tuple(_facts(recipe, source.mapping("provenance.json"), drawn, early=source.mapping("outcome.json").get("stopped_early") is True)),
        accounts=tuple(_account(str(purpose), held) for purpose, held in data.items() if isinstance(held, dict)),
        rejected=tuple(map(plain, items(data.get("rejected"))[:MOST_RECORDS])),
        num_rejected=len(items(data.get("rejected"))),
        verdict=tuple(map(plain, items(doctor.get("verdict")))),
        findings=tuple(_findings(doctor.get("findings"))),
        silent=plain(items(doctor.get("silent"))) if doctor.get("silent") else "",
        diagnosed=bool(doctor),
        curves=drawn,
        results=tuple(results(evals)),
        samples=tuple(_sample(line) for line in samples[:MOST_SAMPLES]),
        num_samples=len(samples),
        notes=tuple(source.notes),
    )


def stage_recipe(name: str, own: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the part of a recipe that a stage follows: from its own recipe file, else from the chain's; a recipe without stages is one stage."""
    for held in (own, whole):
        stages = [stage for stage in items(held.get("stages")) if isinstance(stage, dict)]
        named = [stage for stage in stages if stage.get("name") == name]
        if named or len(stages) == 1:
            return (named or stages)[0]
    return own if "stages" not in own else {}


def _facts(recipe: Mapping[str, Any], provenance: Mapping[str, Any], drawn: Curves, *, early: bool) -> list[tuple[str, str]]:
    model, train = within(recipe, "model"), within(recipe, "train")
    found = [
        ("model", " ".join(filter(None, (plain(model["path"]), "with a scalar head" if model.get("head") == "scalar" else ""))) if "path" in model else ""),
        ("adapter", f"LoRA, {plain(within(model, 'adapter'))}" if within(model, "adapter") else ""),
        ("objective", "; ".join(map(_objective, items(recipe.get("objectives"))))),
        ("data", ", ".join(map(_path, items(within(recipe, "data").get("train"))))),
        ("compared with", plain(within(recipe, "evaluate").get("baseline")) if within(recipe, "evaluate") else ""),
        ("judged by", plain(within(recipe, "evaluate").get("reward")) if within(recipe, "evaluate") else ""),
        ("groups per update", plain(train["groups_per_update"]) if "groups_per_update" in train and drawn.updates else ""),
        ("updates", number(int(drawn.updates)) + (", stopped early" if early else "") if drawn.updates else ""),
        ("supervised tokens", number(int(drawn.tokens)) if drawn.tokens is not None else ""),
        ("throughput", f"{number(drawn.speed, 3)} tokens/s (median)" if drawn.speed is not None else ""),
        ("seed", plain(recipe["seed"]) if "seed" in recipe else ""),
        ("took", between(provenance.get("started"), provenance.get("ended")) or ""),
    ]
    return [(name, said) for name, said in found if said]


def _objective(held: Any) -> str:
    if not isinstance(held, dict):
        return plain(held)
    params = plain(held["params"]) if held.get("params") else ""
    weight = finite(held.get("weight"))
    return ("" if weight in (None, 1.0) else f"{plain(weight)} × ") + plain(held.get("name")) + (f" ({params})" if params else "")


def _path(held: Any) -> str:
    return plain(held.get("path")) if isinstance(held, dict) else plain(held)


def _account(purpose: str, held: Mapping[str, Any]) -> Account:
    names = ("records", "streamed", "groups", "kept", "dropped", "responses", "cut")
    counts = [(name, number(held[name])) for name in names if finite(held.get(name)) is not None]
    reasons, ids = within(held, "reasons"), within(held, "ids")
    told = [(str(reason), number(count), _records(ids.get(reason))) for reason, count in reasons.items()]
    return Account(purpose, tuple(counts), tuple(told), tuple(map(_path, items(held.get("sources")))))


def _findings(held: Any) -> list[Finding]:
    found = []
    for entry in items(held):
        if isinstance(entry, dict):
            level = entry.get("level")
            numbers = _numbers(within(entry, "numbers"))
            headline, mend = plain(entry.get("headline") or entry.get("name")), plain(entry["mend"]) if entry.get("mend") else ""
            found.append(Finding(level if level in LEVELS else "note", plain(entry.get("name")), headline, numbers, _records(entry.get("records")), mend))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _records(held: Any) -> str:
    records = items(held)
    more = len(records) - MOST_RECORDS
    said = ", ".join(map(_record, records[:MOST_RECORDS]))
    return f"{said} and {number(more)} more" if more > 0 else said


def _record(held: Any) -> str:
    """Returns a record's name, or of a reference to one its name, place and detail."""
    if not isinstance(held, dict):
        return plain(held)
    place = ":".join(plain(held[key]) for key in ("file", "line") if held.get(key) is not None)
    named = plain(held["id"]) if held.get("id") is not None else place
    detail = "; ".join(filter(None, (place if named != place else "", plain(held["detail"]) if held.get("detail") else "")))
    return f"{named} ({detail})" if detail else named or plain(held)


def _numbers(held: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns what a finding measured; of a long table only how many entries it has."""
    return tuple(
        (str(name), f"{len(value)} entries" if isinstance(value, (dict, list)) and len(value) > _TABLE else plain(value)) for name, value in held.items()
    )


def _sample(line: Mapping[str, Any]) -> Sample:
    answers = [answer for answer in items(line.get("responses")) if isinstance(answer, dict)]
    scores = [finite(answer.get("score")) for answer in answers]
    highest = max((score for score in scores if score is not None), default=None)
    single = scores.count(highest) == 1 and sum(score is not None for score in scores) > 1
    prompt, more = _cut(line.get("prompt"))
    shown = [
        Answer(plain(answer.get("name")), *_cut(answer.get("text")), "" if score is None else number(answer["score"]), single and score == highest)
        for answer, score in zip(answers, scores, strict=True)
    ]
    return Sample(prompt, more, tuple(shown))


def _cut(text: Any) -> tuple[str, int]:
    said = text if isinstance(text, str) else plain(text)
    return said[:MOST_CHARACTERS], max(0, len(said) - MOST_CHARACTERS)


def gravest(stages: Sequence[StageView]) -> str:
    """Returns how the doctor found the data of all stages, in a line; empty where it looked at none."""
    if not any(stage.diagnosed for stage in stages):
        return ""
    found = {(finding.level, finding.headline) for stage in stages for finding in stage.findings}
    errors, warnings = (sum(level == wanted for level, _ in found) for wanted in ("error", "warn"))
    told = [f"{number(count)} {word}{'' if count == 1 else 's'}" for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return f"The doctor found {' and '.join(told)} in the training data." if told else "The doctor found nothing wrong in the training data."
