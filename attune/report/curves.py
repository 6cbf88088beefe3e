"""A stage's metrics as charts: which numbers belong together, in which unit, and what they say at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from attune.report.chart import Chart, Series, chart, shown
from attune.report.words import counted, finite, measured, number

TRAIN, EVAL = "train", "eval"
_LAST = 10  # training updates whose mean stands for the end where nothing was held out
_STILL = 1e-3  # nats below which a change is called none

Rows = Mapping[str, Mapping[float, Mapping[str, Any]]]
"""split -> update -> numbers."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one chart shows."""

    title: str
    unit: str
    keys: Mapping[str, str]
    # metric -> name of its curve
    include: tuple[float, ...] = ()
    compare: float | None = None
    share: bool = False
    instead: str | None = None
    # a metric whose presence makes this chart superfluous
    splits: tuple[str, ...] = (TRAIN, EVAL)
    means: str = ""
    # how to read it


PANELS = (
    Panel(
        "Preference margin",
        "nats",
        {"margin": "margin"},
        compare=0.0,
        means="How much more the chosen response is favoured; above the line the policy agrees with the feedback.",
    ),
    Panel("Pairs ranked right", "share", {"accuracy": "accuracy"}, include=(1.0,), compare=0.5, share=True, means="The line at 50 % is chance."),
    Panel(
        "Log-probability since the start",
        "nats a response",
        {"chosen_logp_change": "chosen", "rejected_logp_change": "rejected"},
        compare=0.0,
        means="Below the line, responses have become less likely than they were before training.",
    ),
    Panel("Log-probability", "nats a response", {"chosen_logp": "chosen", "rejected_logp": "rejected"}, instead="chosen_logp_change"),
    Panel(
        "Distance from the reference",
        "nats a response",
        {"kl_to_ref": "KL"},
        compare=0.0,
        means="0 where the policy has not moved; an estimate of KL only where the reference itself wrote the responses.",
    ),
    Panel("Response length", "tokens", {"chosen_length": "chosen", "rejected_length": "rejected"}, include=(0.0,)),
    Panel("Response length", "tokens", {"length": "all responses"}, include=(0.0,), instead="chosen_length"),
    Panel("Gradient norm", "before clipping", {"grad_norm": "norm"}, include=(0.0,), splits=(TRAIN,)),
    Panel("Learning rate", "per update", {"lr": "rate"}, include=(0.0,), splits=(TRAIN,)),
    Panel("Supervised tokens", "tokens an update", {"supervised_tokens": "tokens"}, include=(0.0,), splits=(TRAIN,)),
)


@dataclass(frozen=True, slots=True)
class Card:
    """A chart with the number that it ends at."""

    chart: Chart
    end: str
    # the last value
    when: str
    # where it comes from
    reading: str


@dataclass(frozen=True, slots=True)
class Curves:
    """All charts of a stage, and totals over it."""

    cards: tuple[Card, ...]
    updates: float
    # the last update; 0: none
    tokens: float | None
    # supervised tokens over all updates; None: not logged for every update
    speed: float | None
    # median tokens a second; None: not logged

    @property
    def manners(self) -> str:
        """How the lines of all charts are to be read."""
        return " ".join(dict.fromkeys(manner for card in self.cards for manner in card.chart.manners))


def curves(lines: Sequence[Mapping[str, Any]]) -> Curves:
    """Returns the charts that a stage's metrics can fill.

    Args:
        lines: of metrics.jsonl; lines without an update are left out, and of two lines for one update and split the later one holds.
    """
    rows: dict[str, dict[float, Mapping[str, Any]]] = {TRAIN: {}, EVAL: {}}
    for line in lines:
        update, split = finite(line.get("update")), line.get("split", TRAIN)
        if update is not None and split in (TRAIN, EVAL):
            rows[split][update] = line
    updates = [update for held in rows.values() for update in held]
    if not updates:
        return Curves((), 0, None, None)
    span = (min(updates), max(updates))
    cards = [card for panel in (*_losses(rows), *PANELS) if (card := _card(panel, rows, span)) is not None]
    train = rows[TRAIN].values()
    tokens = [finite(row.get("supervised_tokens")) for row in train]
    speeds = [speed for row in train if (speed := finite(row.get("tokens_per_second"))) is not None]
    known = [count for count in tokens if count is not None]
    return Curves(tuple(cards), span[1], sum(known) if known and len(known) == len(tokens) else None, median(speeds) if speeds else None)


def _losses(rows: Rows) -> list[Panel]:
    """Returns the loss, and its parts where several objectives are added up."""
    parts = sorted({key for held in rows.values() for row in held.values() for key in row if key.startswith("loss/")})
    unit = "as optimised, per counted item"
    found = [Panel("Loss", unit, {"loss": "loss"})]
    if len(parts) > 1:
        found.append(Panel("Loss by objective", unit, {part: part.removeprefix("loss/") for part in parts}))
    return found


def _card(panel: Panel, rows: Rows, span: tuple[float, float]) -> Card | None:
    if panel.instead is not None and any(panel.instead in row for held in rows.values() for row in held.values()):
        return None
    series = []
    for tone, (key, label) in enumerate(panel.keys.items()):
        for split in panel.splits:
            points = [(update, finite(row[key])) for update, row in sorted(rows[split].items()) if row.get(key) is not None]
            series.append(Series(label, points, "line", tone) if split == TRAIN else Series(f"{label}, held out", points, "dots", tone))
    drawn = chart(panel.title, panel.unit, series, span, include=panel.include, compare=panel.compare, share=panel.share)
    if drawn is None:
        return None
    end, when = _end(panel, rows)
    return Card(drawn, end, when, _displacement(rows) if "chosen_logp_change" in panel.keys else panel.means)


def _end(panel: Panel, rows: Rows) -> tuple[str, str]:
    """Returns the last finite value of a chart with one curve: of the held-out data if there is one, else of training."""
    if len(panel.keys) > 1:
        return "", ""
    key = next(iter(panel.keys))
    for split in reversed(panel.splits):
        held = [(update, value) for update, row in sorted(rows[split].items()) if (value := finite(row.get(key))) is not None]
        if held:
            return shown(held[-1][1], share=panel.share), f"{'held out, ' if split == EVAL else ''}update {number(int(held[-1][0]))}"
    return "", ""


def _displacement(rows: Rows) -> str:
    """Says what became of chosen and rejected responses: the answer to why the reward of chosen responses falls."""
    keys = ("chosen_logp_change", "rejected_logp_change")
    held, where = _both(rows[EVAL], keys)[-1:], "held-out data at the last evaluation"
    if not held:
        held = _both(rows[TRAIN], keys)[-_LAST:]
        where = f"training data, mean of the last {counted(len(held), 'update')}"
    if not held:
        return ""
    chosen, rejected = (mean if abs(mean := fmean(values)) >= _STILL else 0.0 for values in zip(*held, strict=True))
    said = f"Chosen {_moved(chosen)}, rejected {_moved(rejected)} ({where})."
    if chosen < 0 and chosen > rejected:
        return f"{said} The margin grew because rejected responses lost more, while chosen ones lost too: probability went to responses of neither kind."
    if chosen < rejected:
        return f"{said} The change went against the feedback."
    return said


def _both(held: Mapping[float, Mapping[str, Any]], keys: tuple[str, str]) -> list[tuple[float, float]]:
    found = []
    for _, row in sorted(held.items()):
        first, second = finite(row.get(keys[0])), finite(row.get(keys[1]))
        if first is not None and second is not None:
            found.append((first, second))
    return found


def _moved(change: float) -> str:
    return "did not move" if not change else f"{'rose' if change > 0 else 'fell'} by {measured(abs(change), 'nats')}"
