"""The doctor over all real files: every record accounted for, and the published numbers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from attune.diagnostics.diagnosis import Diagnosis
from attune.diagnostics.doctor import examine_path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = sorted(path.name for path in DATA.glob("*.jsonl*"))
TABLES = {"scores_wildbench.jsonl.gz": 4094, "pairwise_counts_wildbench.jsonl.gz": 368}
WRONG = {"judge_verdicts_llmbar.jsonl.gz": "contradictions"}

pytestmark = pytest.mark.skipif(not FILES, reason="the shared data folder is not beside this checkout")


@cache
def examined(name: str) -> Diagnosis:
    return examine_path(DATA / name)


@pytest.mark.parametrize("name", FILES)
def test_every_record_is_accounted_for(name: str) -> None:
    diagnosis = examined(name)
    json.dumps(diagnosis.to_dict(), allow_nan=False)
    assert len(diagnosis.verdict) <= 5
    if name in TABLES:
        assert (diagnosis.of("table").numbers["records"], diagnosis.exit_code) == (TABLES[name], 0)
        assert "result table" in diagnosis.render()
        return
    numbers = diagnosis.of("accounting").numbers
    assert numbers["unaccounted"] == 0
    assert numbers["records"] == numbers["used"] + numbers["rejected"]
    assert [finding.name for finding in diagnosis.findings if finding.level == "error"] == ([WRONG[name]] if name in WRONG else [])


def test_there_are_21_files() -> None:
    assert len(FILES) == 21


def test_pandalm_kappas() -> None:
    people = examined("pairs_three_annotators_pandalm.jsonl.gz").of("agreement_people")
    kappas = {pair: round(kappa.value, 2) for pair, kappa in people.numbers["cohen"].items()}
    assert kappas == {"annotator1 - annotator2": 0.85, "annotator1 - annotator3": 0.88, "annotator2 - annotator3": 0.86}
    assert people.numbers["comparisons"] == 999


def test_sparse_feedback_consistency() -> None:
    found = examined("ratings_and_rankings_sparse_feedback.jsonl").of("consistency")
    assert found.numbers["counts"]["(overall)"] == {"agree": 38, "comparisons": 73}


def test_llmbar_accuracy_and_consistency() -> None:
    """Accuracy averaged over both orders, and verdicts that are the same in both; where every verdict could be read."""
    diagnosis = examined("judge_verdicts_llmbar.jsonl.gz")
    shares = {name: share.value for name, share in diagnosis.of("judges").numbers["share"].items()}
    orders = {name: order.consistent.value for name, order in diagnosis.of("order").numbers["by_annotator"].items()}
    published = {
        "judge:GPT-4/Vanilla_NoRules": (0.81, 0.87),
        "judge:ChatGPT/Vanilla_NoRules": (0.7125, 0.575),
        "judge:GPT-4/CoT": (68 / 92, 38 / 46),
        "judge:ChatGPT/Vanilla": (32 / 92, 24 / 46),
    }
    for name, (accuracy, consistency) in published.items():
        assert (shares[name], orders[name]) == pytest.approx((accuracy, consistency)), name


def test_other_counts_of_the_data_readme() -> None:
    ties = examined("spans_rankings_qa_feedback.jsonl.gz").of("ties").numbers
    assert (ties["comparisons"], ties["ties"]) == (1932, 237)
    solutions = examined("outcomes_gsm8k_four_models.jsonl.gz").of("balance").numbers["counts"]
    assert [counts["desirable"] for counts in solutions.values()] == [173 + 319 + 294 + 446]
