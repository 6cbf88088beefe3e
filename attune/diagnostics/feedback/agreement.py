"""How far annotators agree on which response is better, beyond chance: people apart from judges, judges against the truth where it is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from attune.core.record import Group
from attune.diagnostics.finding import Finding, Level, many, resamples
from attune.diagnostics.judgments import NOBODY, Kind, judgments, kind
from attune.ops.agreement import agreement_share, cohen_kappa, fleiss_kappa, krippendorff_alpha
from attune.ops.intervals import Estimate, show

POOR, FAIR = 0.4, 0.667
"""Krippendorff's alpha below which labels are mostly noise, and below which conclusions are only tentative (Krippendorff 2004, section 11.4)."""

NUM_PAIRS = 45
"""Pairs of annotators whose kappa is computed: those with the most comparisons in common (all of up to ten annotators)."""

Item = tuple[int, int, int, str | None, int]
"""Group, first and second response, criterion, and which of the annotator's verdicts on them it is."""

Labels = Mapping[str, Mapping[Item, int]]
"""Annotator -> item -> 1 the first is better, -1 the second, 0 a tie. First and second are as the file has them."""


def agreement(groups: Sequence[Group]) -> tuple[Finding, ...]:
    """Returns "agreement_people" and "agreement_judges" (each within its kind) and "judges" (judges against gold labels, or the people's majority).

    Cohen's kappa for each two annotators on the comparisons both made, Fleiss' kappa where every comparison has equally many labels,
    Krippendorff's alpha over all; ties are a label of their own; intervals by comparison.
    """
    labels = _labels(groups)
    kinds: dict[Kind, Labels] = {which: {name: said for name, said in labels.items() if kind(name) == which} for which in ("people", "judges", "gold")}
    found: list[Finding | None] = [_within("agreement_people", "people", kinds["people"]), _within("agreement_judges", "judge models", kinds["judges"])]
    truth = _majority(kinds["gold"]) or _majority(kinds["people"])
    if truth:
        found.append(_against("gold labels" if kinds["gold"] else "the majority of people", kinds["judges"], truth))
    return tuple(finding for finding in found if finding is not None)


def _labels(groups: Sequence[Group]) -> Labels:
    place = {id(group): index for index, group in enumerate(groups)}
    labels: dict[str, dict[Item, int]] = {}
    times: Counter[tuple[object, ...]] = Counter()
    for judgment in judgments(groups):
        if judgment.annotator == NOBODY:
            continue
        question = (place[id(judgment.group)], judgment.first, judgment.second, judgment.criterion)
        time = times[judgment.annotator, question]
        times[judgment.annotator, question] += 1
        labels.setdefault(judgment.annotator, {})[*question, time] = judgment.order
    return labels


def _within(name: str, who: str, labels: Labels) -> Finding | None:
    items: dict[Item, list[int]] = {}
    for labels_of in labels.values():
        for item, order in labels_of.items():
            items.setdefault(item, []).append(order)
    several = [orders for orders in items.values() if len(orders) > 1]
    if not several:
        return None
    num = resamples(len(several))
    alpha = krippendorff_alpha(several, num_resamples=num)
    same_number = len({len(orders) for orders in several}) == 1
    fleiss = fleiss_kappa(several, num_resamples=num) if same_number else None
    kappas = {f"{first} - {second}": _kappa(labels[first], labels[second]) for first, second in _closest(labels)}
    defined = [kappa.value for kappa in kappas.values() if not math.isnan(kappa.value)]
    said = f"{many(len(labels), 'annotator')} ({who}) share {many(len(several), 'comparison')}: Krippendorff's alpha {alpha}"
    if defined and len(defined) <= 3:
        said += "; Cohen's kappa " + ", ".join(f"{show(kappa.value)} ({pair})" for pair, kappa in kappas.items() if not math.isnan(kappa.value))
    elif defined:
        said += f"; Cohen's kappa {show(min(defined))} to {show(max(defined))} over {many(len(defined), 'pair')} of annotators"
    level = _level(alpha)
    return Finding(
        name=name,
        level=level,
        headline=said,
        numbers={"annotators": len(labels), "comparisons": len(several), "alpha": alpha, "fleiss": fleiss, "cohen": kappas},
        mend="sharpen the guideline, or ask more annotators a comparison and train on soft labels" if level in ("note", "warn") else "",
    )


def _level(alpha: Estimate) -> Level:
    if math.isnan(alpha.value):
        return "note"
    return "warn" if alpha.value < POOR else "note" if alpha.value < FAIR else "ok"


def _closest(labels: Labels) -> list[tuple[str, str]]:
    """Returns the pairs of annotators with at least two comparisons in common, those with the most first."""
    common = {pair: len(labels[pair[0]].keys() & labels[pair[1]].keys()) for pair in combinations(sorted(labels), 2)}
    return [pair for pair, num in Counter(common).most_common(NUM_PAIRS) if num > 1]


def _kappa(first: Mapping[Item, int], second: Mapping[Item, int]) -> Estimate:
    common = sorted(first.keys() & second.keys(), key=str)
    return cohen_kappa([first[item] for item in common], [second[item] for item in common], num_resamples=resamples(len(common)))


def _majority(labels: Labels) -> dict[Item, int]:
    """Returns the label that more annotators gave than any other, where there is one."""
    votes: dict[Item, Counter[int]] = {}
    for said in labels.values():
        for item, order in said.items():
            votes.setdefault(item, Counter())[order] += 1
    ranked = {item: count.most_common(2) for item, count in votes.items()}
    return {item: top[0][0] for item, top in ranked.items() if len(top) == 1 or top[0][1] > top[1][1]}


def _against(truth_name: str, judges: Labels, truth: Mapping[Item, int]) -> Finding | None:
    shares: dict[str, Estimate] = {}
    kappas: dict[str, Estimate] = {}
    for name, answers_of in judges.items():
        # a judge may be asked several times, in both orders; each answer is held against the one truth
        common = [(order, truth[*item[:4], 0]) for item, order in answers_of.items() if (*item[:4], 0) in truth]
        if common:
            answers, right = zip(*common, strict=True)
            shares[name] = agreement_share(answers, right, num_resamples=resamples(len(common)))
            kappas[name] = cohen_kappa(answers, right, num_resamples=resamples(len(common)))
    if not shares:
        return None
    ranked = sorted(shares, key=lambda name: shares[name].value)
    worst, best = ranked[0], ranked[-1]
    said = f"{best} agrees with {truth_name} on {100 * shares[best].value:.1f} % of {many(shares[best].num, 'verdict')}"
    if worst != best:
        said += f", {worst} on {100 * shares[worst].value:.1f} % of {shares[worst].num:,}"
    poor = [name for name in shares if kappas[name].value < POOR]
    return Finding(
        name="judges",
        level="warn" if poor else "ok",
        headline=said,
        numbers={"truth": truth_name, "share": shares, "kappa": kappas},
        mend=f"do not train on the verdicts of {', '.join(poor)}: little beyond chance" if poor else "",
    )
