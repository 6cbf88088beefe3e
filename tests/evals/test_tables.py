"""WildBench's tables: by hand, and the numbers the source publishes."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from attune.core.errors import AttuneError
from attune.evals.tables import pairwise_reward, score_summaries

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
with_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside this checkout")


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(SHARED / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@with_shared
def test_published_scores() -> None:
    published = json.loads((SHARED / "published_numbers.json").read_text(encoding="utf-8"))["scores_wildbench"]
    summaries = score_summaries(rows("scores_wildbench.jsonl.gz"), num_resamples=200)
    assert set(summaries) == set(published) - {"source_file"}
    for model, summary in summaries.items():
        expected = published[model]
        assert summary.mean.value == pytest.approx(expected["score"], abs=1e-9)
        assert summary.adjusted.value == pytest.approx(expected["adjusted_score"], abs=1e-9)
        assert summary.num == expected["total"]
        assert summary.mean_length == pytest.approx(expected["avg_len"], abs=1e-6)


@with_shared
def test_published_pairwise_rewards() -> None:
    counted = rows("pairwise_counts_wildbench.jsonl.gz")
    assert len(counted) == 368
    for row in counted:
        assert pairwise_reward(row).reward.value == pytest.approx(row["reward"], abs=1e-12)


def test_scores_by_hand() -> None:
    table = [{"model": "m", "score": "8", "output_len": 10}, {"model": "m", "score": 5, "output_len": 0}, {"model": "m", "score": "2", "output_len": 30}]
    summary = score_summaries(table)["m"]
    assert (summary.mean.value, summary.adjusted.value, summary.num, summary.num_empty, summary.mean_length) == (5.0, 0.0, 3, 1, 20.0)
    assert (summary.adjusted.low, summary.adjusted.high) == ((summary.mean.low - 5) * 2, (summary.mean.high - 5) * 2)
    assert "mean length 20.0 (1 empty)" in str(summary)
    assert score_summaries([{"model": "m", "score": 3, "output_len": 0}])["m"].to_dict()["mean_length"] is None


def test_a_reward_by_hand() -> None:
    row = {"model": "m", "reference": "r", "win_much": 1, "win": 2, "tie": 3, "lose": 2, "lose_much": 0, "total": 10}
    result = pairwise_reward(row)
    assert (result.reward.value, result.num_unjudged) == (pytest.approx(0.1), 2)
    # squares: 1 + 4 quarters = 2 of 10
    assert result.reward.high - 0.1 == pytest.approx(1.959964 * math.sqrt((0.2 - 0.01) / 10), abs=1e-6)


def test_wrong_rows_name_their_place() -> None:
    with pytest.raises(AttuneError, match=r"rows\[1\].score"):
        score_summaries([{"model": "m", "score": 1, "output_len": 1}, {"model": "m", "score": "N/A", "output_len": 1}])
    with pytest.raises(AttuneError, match=r"rows\[7\].tie"):
        pairwise_reward({"win_much": 1, "win": 1}, index=7)
    with pytest.raises(AttuneError, match="add up"):
        pairwise_reward(dict.fromkeys(("win_much", "win", "tie", "lose", "lose_much", "total"), 3))
    with pytest.raises(AttuneError, match="rows"):
        score_summaries([])
