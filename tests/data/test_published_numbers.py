"""Numbers that the sources publish, or that were counted on these files by other code, come out of the Groups that the formats give."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from attune.core.record import Group, Verdict
from attune.data.read import read, read_table

PEOPLE = ("annotator1", "annotator2", "annotator3")


@cache
def groups(folder: Path, name: str, *, joined: bool = True) -> tuple[Group, ...]:
    """The groups of one file, joined by prompt or one a record."""
    return tuple(read(folder / name, group_equal=joined))


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, Any]:
    """What the sources published, by file and group."""
    return dict(json.loads((shared_data / "published_numbers.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def labels(shared_data: Path) -> dict[str, list[int | None]]:
    """PandaLM's labels by annotator in record order: 0 tie, 1, 2, None where there is no verdict."""
    found: dict[str, list[int | None]] = {name: [] for name in (*PEOPLE, "judge:gpt-3.5-turbo", "judge:pandalm-7b")}
    for group in groups(shared_data, "pairs_three_annotators_pandalm.jsonl.gz", joined=False):
        said = {verdict.annotator: {1: 1, -1: 2, 0: 0, None: None}[verdict.order(0, 1)] for verdict in group.verdicts}
        for name, column in found.items():
            column.append(said.get(name))
    return found


@pytest.fixture(scope="module")
def majority(labels: dict[str, list[int | None]]) -> list[int | None]:
    """PandaLM's majority label of each record."""
    return [Counter(three).most_common(1)[0][0] for three in zip(*(labels[name] for name in PEOPLE), strict=True)]


def test_pandalm_people_agree_as_published(labels: dict[str, list[int | None]], published: dict[str, Any]) -> None:
    expected = published["pairs_three_annotators_pandalm"]["cohen_kappa"]
    found = {f"{one}-{other}": round(cohen_kappa_score(labels[one], labels[other]), 2) for one, other in combinations(PEOPLE, 2)}
    assert found == expected == {"annotator1-annotator2": 0.85, "annotator1-annotator3": 0.88, "annotator2-annotator3": 0.86}


def test_pandalm_majorities_count_as_published(majority: list[int | None], published: dict[str, Any]) -> None:
    expected = {int(label): count for label, count in published["pairs_three_annotators_pandalm"]["majority_label_counts"].items()}
    assert Counter(majority) == expected == {0: 105, 1: 422, 2: 472}


def test_pandalm_judges_are_right_as_often_as_counted(labels: dict[str, list[int | None]], majority: list[int | None]) -> None:
    gpt, panda = labels["judge:gpt-3.5-turbo"], labels["judge:pandalm-7b"]
    missing_is_wrong = fmean(said == right for said, right in zip(gpt, majority, strict=True))
    missing_is_tie = fmean((said or 0) == right for said, right in zip(gpt, majority, strict=True))
    assert round(missing_is_wrong, 4) == 0.6977
    assert round(missing_is_tie, 4) == 0.7107
    assert round(fmean(said == right for said, right in zip(panda, majority, strict=True)), 4) == 0.6677
    assert (gpt.count(None), panda.count(None)) == (25, 0)


def test_writing_ranks(shared_data: Path) -> None:
    ranks: dict[str | None, list[int]] = defaultdict(list)
    for group in groups(shared_data, "rankings_three_annotators_writing.jsonl.gz"):
        for verdict in group.verdicts:
            for rank, (index,) in enumerate(verdict.tiers, start=1):
                ranks[group.responses[index].generator].append(rank)
    assert {name: (len(found), round(fmean(found), 4)) for name, found in ranks.items()} == {
        "AI-edited": (336, 1.9613),
        "AI-generated": (336, 2.5446),
        "Human-edited": (336, 1.4940),
    }


def test_qa_feedback_pairs_ties_and_spans(shared_data: Path) -> None:
    found = groups(shared_data, "spans_rankings_qa_feedback.jsonl.gz")
    verdicts = [verdict for group in found for verdict in group.verdicts]
    spans = Counter(span.type for group in found for response in group.responses for span in response.spans or ())
    assert (len(found), len(verdicts), sum(len(verdict.tiers) == 1 for verdict in verdicts)) == (322, 1932, 237)
    assert spans == {"Irrelevant": 584, "Wrong-Grounding": 110, "Unverifiable": 103, "Redundant": 101, "Incoherent": 14}


def test_sparse_feedback_ratings_agree_with_rankings(shared_data: Path) -> None:
    agree = compared = 0
    for group in groups(shared_data, "ratings_and_rankings_sparse_feedback.jsonl"):
        rated = {group.responses[rating.response].text: rating.value for rating in reversed(group.ratings)}
        for verdict in group.verdicts:
            first, second = sorted(index for tier in verdict.tiers for index in tier)
            one, other = (rated.get(group.responses[index].text) for index in (first, second))
            if isinstance(one, float) and isinstance(other, float):
                compared += 1
                agree += verdict.order(first, second) == (one > other) - (one < other)
    assert (agree, compared) == (38, 73)


def test_gsm8k_right_answers_by_model(shared_data: Path) -> None:
    right: Counter[str | None] = Counter()
    for group in groups(shared_data, "outcomes_gsm8k_four_models.jsonl.gz"):
        right.update(group.responses[rating.response].generator for rating in group.ratings if rating.value == 1)
    assert right == {"6b_finetuning": 173, "6b_verification": 319, "175b_finetuning": 294, "175b_verification": 446}


def test_traces_without_a_mistake(shared_data: Path) -> None:
    labels = [[step.label for step in group.responses[0].steps or ()] for group in groups(shared_data, "steps_bigbench_mistake.jsonl.gz")]
    assert len(labels) == 750
    assert sum(set(one) == {1.0} for one in labels) == 126
    assert all(one.count(0.0) <= 1 and (0.0 not in one or set(one[one.index(0.0) + 1 :]) <= {None}) for one in labels)


def test_llmbar_judges_are_right_and_consistent_as_published(shared_data: Path, published: dict[str, Any]) -> None:
    asked: dict[str, list[tuple[int, int | None, int | None]]] = defaultdict(list)
    for group in groups(shared_data, "judge_verdicts_llmbar.jsonl.gz", joined=False):
        gold = next(verdict for verdict in group.verdicts if verdict.annotator == "gold")
        given, swapped = (_winner(group.verdicts, order) for order in ((0, 1), (1, 0)))
        asked[f"{group.meta['subset']} | {group.meta['evaluator']}"].append((_label(gold), given, swapped))
    assert asked.keys() == published["judge_verdicts_llmbar"].keys()
    for name, expected in published["judge_verdicts_llmbar"].items():
        judged = asked[name]
        counts = {
            "correct_False": sum(gold == given for gold, given, _ in judged),
            "correct_True": sum(gold == swapped for gold, _, swapped in judged),
            "correct_both": sum(gold == given == swapped for gold, given, swapped in judged),
            "equal": sum(given == swapped for _, given, swapped in judged),
        }
        assert counts == {key: int(expected[key].split(" / ")[0]) for key in counts}, name
        assert len(judged) == int(expected["equal"].split(" / ")[1].split(" = ")[0])
        # the source maps every verdict but "0" and "1" to 0 before its kappas, so 2 and a missing verdict fall together
        kappa = cohen_kappa_score([given == 1 for _, given, _ in judged], [swapped == 1 for _, _, swapped in judged])
        assert kappa == pytest.approx(expected["kappa_agreement"], abs=1e-12), name


def _label(verdict: Verdict) -> int:
    return verdict.tiers[0][0] + 1


def _winner(verdicts: tuple[Verdict, ...], presented: tuple[int, int]) -> int | None:
    return next((_label(verdict) for verdict in verdicts if verdict.presented == presented), None)


def test_wildbench_mean_scores_and_lengths_as_published(shared_data: Path, published: dict[str, Any]) -> None:
    scores, lengths = defaultdict(list), defaultdict(list)
    for row in read_table(shared_data / "scores_wildbench.jsonl.gz"):
        scores[row["model"]].append(float(row["score"]))
        if row["output_len"]:  # an empty output counts in the score and not in the length
            lengths[row["model"]].append(row["output_len"])
    expected = {model: numbers for model, numbers in published["scores_wildbench"].items() if isinstance(numbers, dict)}
    assert scores.keys() == expected.keys()
    for model, numbers in expected.items():
        assert len(scores[model]) == numbers["total"]
        assert fmean(scores[model]) == pytest.approx(numbers["score"], abs=1e-9)
        assert (fmean(scores[model]) - 5) * 2 == pytest.approx(numbers["adjusted_score"], abs=1e-9)
        assert fmean(lengths[model]) == pytest.approx(numbers["avg_len"], abs=1e-9)


def test_wildbench_judgments_are_rows_of_its_score_table(shared_data: Path) -> None:
    table = {(row["session_id"], row["model"]): float(row["score"]) for row in read_table(shared_data / "scores_wildbench.jsonl.gz")}
    judged = {
        (group.id.removeprefix("wildbench-"), str(group.responses[rating.response].generator).split("/")[-1]): rating.value
        for group in groups(shared_data, "kway_scores_judgments_wildbench.jsonl.gz")
        for rating in group.ratings
    }
    common = table.keys() & judged.keys()
    assert len(common) == 4 * 130  # four of the eight models stand in the table
    assert all(table[one] == judged[one] for one in common)


def test_wildbench_rewards_follow_from_the_counts(shared_data: Path) -> None:
    rows = list(read_table(shared_data / "pairwise_counts_wildbench.jsonl.gz"))
    assert len(rows) == 368
    for row in rows:
        assert row["reward"] == pytest.approx((row["win_much"] + row["win"] / 2 - row["lose"] / 2 - row["lose_much"]) / row["total"], abs=1e-12)
