"""Agreement numbers that the sources of the shared data publish, from the raw files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from attune.ops.agreement import agreement_share, cohen_kappa, fleiss_kappa, krippendorff_alpha

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside this checkout")


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(SHARED / name, "rt", encoding="utf-8") if name.endswith(".gz") else open(SHARED / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_pandalm_kappas() -> None:
    published = json.loads((SHARED / "published_numbers.json").read_text(encoding="utf-8"))["pairs_three_annotators_pandalm"]
    people = ("annotator1", "annotator2", "annotator3")
    items = [[row[person] for person in people] for row in rows("pairs_three_annotators_pandalm.jsonl.gz")]
    for (i, one), (j, other) in combinations(enumerate(people), 2):
        estimate = cohen_kappa([item[i] for item in items], [item[j] for item in items])
        assert round(estimate.value, 2) == published["cohen_kappa"][f"{one}-{other}"]
        assert estimate.num == 999
        assert 0.04 < estimate.high - estimate.low < 0.07
    majority = Counter(label for item in items for label, votes in Counter(item).items() if votes > 1)
    assert {str(label): num for label, num in majority.items()} == published["majority_label_counts"]
    # three people with equal habits: both many-annotator coefficients lie where the three kappas do
    assert fleiss_kappa(items).value == pytest.approx(0.865, abs=0.01)
    assert krippendorff_alpha(items).value == pytest.approx(fleiss_kappa(items).value, abs=1e-3)


def test_sparse_feedback_consistency() -> None:
    ratings: dict[tuple[str, str, str], float] = {}
    pairs: dict[tuple[str, str, str, str], str] = {}
    for row in rows("ratings_and_rankings_sparse_feedback.jsonl"):
        asked = (row["instruction"], row["input"])
        if row["kind"] == "rating":
            ratings.setdefault((*asked, row["output"]), float(row["rating"]))
        else:
            pairs.setdefault((*asked, row["output1"], row["output2"]), row["ranking"])
    implied: list[str | None] = []
    for instruction, given, first, second in pairs:
        one, other = ratings.get((instruction, given, first)), ratings.get((instruction, given, second))
        implied.append(None if one is None or other is None else "equal" if one == other else "(a)" if one > other else "(b)")
    estimate = agreement_share(implied, list(pairs.values()))
    assert (estimate.num, round(estimate.value * estimate.num)) == (73, 38)
