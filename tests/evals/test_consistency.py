"""Judges across orders and ratings against rankings: by hand, and the numbers the sources publish."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import AttuneError
from attune.core.record import Group, Rating, Response, Verdict
from attune.data.read import read
from attune.evals.consistency import Trial, judge_statistics, protocol_consistency, trial_from_llmbar, trials_from_groups

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
with_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside this checkout")
PAIR = (Response(content="a"), Response(content="b"))
FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)


@with_shared
def test_published_judge_statistics() -> None:
    published = json.loads((SHARED / "published_numbers.json").read_text(encoding="utf-8"))["judge_verdicts_llmbar"]
    trials: dict[str, list[Trial]] = defaultdict(list)
    with gzip.open(SHARED / "judge_verdicts_llmbar.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            trials[f"{row['subset']} | {row['evaluator']}"].append(trial_from_llmbar(row))
    assert trials.keys() == published.keys()
    for name, expected in published.items():
        found = judge_statistics(trials[name], as_published=True, num_resamples=50)
        shares = {"correct_False": found.correct_given, "correct_True": found.correct_swapped, "correct_both": found.correct_both, "equal": found.equal}
        for key, estimate in shares.items():
            assert expected[key].startswith(f"{round(estimate.value * estimate.num)} / {estimate.num} = ")
        assert f"{found.correct_average.value:.4%}" == f"{float(expected['correct_average'].rstrip('%')) / 100:.4%}"
        kappas = {"kappa_False": found.kappa_given.value, "kappa_True": found.kappa_swapped.value, "kappa_agreement": found.kappa_agreement.value}
        for key, value in {**kappas, "kappa_average": found.kappa_average}.items():
            assert value == pytest.approx(expected[key], abs=1e-12)
        assert found.num_missing == (8 if "PaLM2" in name else 0)


def test_a_missing_verdict_is_neither_right_nor_consistent() -> None:
    trials = [Trial(gold=1, given=1, swapped=1), Trial(gold=2, given=1, swapped=2), Trial(gold=2, given=None, swapped=None), Trial(gold=2, given=2, swapped=2)]
    plain, published = judge_statistics(trials), judge_statistics(trials, as_published=True)
    assert (plain.correct_given.value, plain.correct_swapped.value, plain.correct_both.value) == (2 / 4, 3 / 4, 2 / 4)
    assert plain.correct_average.value == pytest.approx(5 / 8)
    assert (plain.equal.value, plain.equal.num, plain.num_missing) == (2 / 3, 3, 1)
    assert (published.equal.value, published.equal.num) == (3 / 4, 4)
    assert plain.kappa_swapped.value == 1.0
    # given against gold on (1,1), (1,2), (2,2): agreement 2/3, chance (2/3)(1/3) + (1/3)(2/3) = 4/9
    assert plain.kappa_given.value == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))


def test_trials_come_out_of_groups() -> None:
    def judged(name: str, *said: tuple[tuple[tuple[int, ...], ...], tuple[int, int]]) -> Group:
        verdicts = [Verdict(tiers=SECOND, annotator="gold"), *(Verdict(tiers=t, presented=p, annotator="judge:x") for t, p in said)]
        return Group(id=name, responses=PAIR, verdicts=tuple(verdicts))

    groups = [judged("a", (SECOND, (0, 1)), (FIRST, (1, 0))), judged("b", (TIE, (1, 0))), judged("c"), Group(id="d", responses=PAIR)]
    assert trials_from_groups(groups, judge="judge:x") == [
        Trial(gold=2, given=2, swapped=1),
        Trial(gold=2, given=None, swapped=0),
        Trial(gold=2, given=None, swapped=None),
    ]
    several = Group(
        id="several",
        responses=(*PAIR, Response(content="c")),
        verdicts=(
            Verdict(tiers=((2,), (1,)), annotator="gold"),
            Verdict(tiers=((1,), (2,)), presented=(2, 1), annotator="judge:x"),
            Verdict(tiers=((2,), (0,)), presented=(0, 2), annotator="judge:x"),
        ),
    )
    assert trials_from_groups([several], judge="judge:x") == [Trial(gold=2, given=None, swapped=1)]
    with pytest.raises(AttuneError, match="group_equal=False"):
        trials_from_groups([judged("e", (FIRST, (0, 1)), (FIRST, (0, 1)))], judge="judge:x")


@with_shared
def test_groups_of_the_reader_give_the_published_statistics() -> None:
    published = json.loads((SHARED / "published_numbers.json").read_text(encoding="utf-8"))["judge_verdicts_llmbar"]
    groups = list(read(SHARED / "judge_verdicts_llmbar.jsonl.gz", group_equal=False))
    for name, expected in published.items():
        subset, judge = name.split(" | ")
        asked = [group for group in groups if (group.meta["subset"], group.meta["evaluator"]) == (subset, judge)]
        found = judge_statistics(trials_from_groups(asked, judge=f"judge:{judge}"), as_published=True, num_resamples=50)
        for key, estimate in (("correct_False", found.correct_given), ("correct_True", found.correct_swapped), ("equal", found.equal)):
            assert expected[key].startswith(f"{round(estimate.value * estimate.num)} / {estimate.num} = ")
        assert found.kappa_agreement.value == pytest.approx(expected["kappa_agreement"], abs=1e-12)


def test_ratings_against_verdicts_by_hand() -> None:
    def rated(*values: float) -> tuple[Rating, ...]:
        return tuple(Rating(response=i, value=value, annotator="ann") for i, value in enumerate(values))

    def said(tiers: Any, annotator: str = "ann") -> tuple[Verdict, ...]:
        return (Verdict(tiers=tiers, annotator=annotator),)

    three = (*PAIR, Response(content="c"))
    groups = [
        Group(id="agrees", responses=PAIR, ratings=rated(6, 3), verdicts=said(FIRST)),
        Group(id="contradicts", responses=PAIR, ratings=rated(6, 3), verdicts=said(SECOND)),
        Group(id="ties", responses=PAIR, ratings=rated(5, 5), verdicts=said(FIRST)),
        Group(id="another person", responses=PAIR, ratings=rated(5, 5), verdicts=said(FIRST, "bob")),
        Group(id="two means", responses=PAIR, ratings=(*rated(6, 3), *rated(1, 4)), verdicts=said(TIE)),  # 3.5 and 3.5
        Group(id="list", responses=three, ratings=rated(3, 2, 1), verdicts=said(((2,), (0,), (1,)))),  # 0>1 agrees, both pairs with 2 do not
        Group(id="aspect", responses=PAIR, ratings=(Rating(response=0, value=1, annotator="ann", aspect="tone"), *rated(2, 2)[1:]), verdicts=said(FIRST)),
    ]
    result = protocol_consistency(groups)
    assert (result.consistent.value, result.contradictory.value, result.consistent.num) == (3 / 7, 3 / 7, 7)
    assert result.num_unrated == 2
    assert result.table["first"] == {"first": 2, "second": 3, "tie": 0}
    assert result.table["tie"] == {"first": 1, "second": 0, "tie": 1}


@with_shared
def test_published_sparse_feedback_consistency_from_groups() -> None:
    # the source keeps the first of repeated records; a pair may show one text twice, so each place is a response of its own
    asked: dict[tuple[str, str], dict[tuple[str, ...], Any]] = defaultdict(dict)
    with open(SHARED / "ratings_and_rankings_sparse_feedback.jsonl", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            key = tuple(row[name] for name in ("output", "output1", "output2") if name in row)
            asked[row["instruction"], row["input"]].setdefault(key, row["rating"] if len(key) == 1 else row["ranking"])
    groups = []
    for number, feedback in enumerate(asked.values()):
        texts = [text for key in feedback for text in key]
        starts = [sum(map(len, list(feedback)[:place])) for place in range(len(feedback))]
        said = list(zip(starts, feedback.values(), strict=True))
        orders = {"(a)": lambda i: ((i,), (i + 1,)), "(b)": lambda i: ((i + 1,), (i,)), "equal": lambda i: ((i, i + 1),)}
        groups.append(
            Group(
                id=str(number),
                responses=tuple(Response(content=text) for text in texts),
                ratings=tuple(Rating(response=i, value=float(value)) for i, value in said if value not in orders),
                verdicts=tuple(Verdict(tiers=orders[value](i)) for i, value in said if value in orders),
            )
        )
    result = protocol_consistency(groups)
    assert (round(result.consistent.value * result.consistent.num), result.consistent.num) == (38, 73)


def test_wrong_input_is_refused() -> None:
    for call in (
        lambda: judge_statistics([]),
        lambda: judge_statistics([Trial(gold=1, given=None, swapped=1)]),
        lambda: trial_from_llmbar({"label": 3, "results": [{"swap = False": {}, "swap = True": {}}]}),
        lambda: trial_from_llmbar({"label": 1, "results": []}),
        lambda: protocol_consistency([Group(id="a", responses=PAIR, verdicts=(Verdict(tiers=FIRST),))]),
    ):
        with pytest.raises(AttuneError):
            call()
