"""RewardBench's averages, worked out by hand and against its published weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from attune.core.errors import AttuneError
from attune.evals.reward_bench import SECTIONS, reward_bench

# records of the full file; Lambert et al. 2024, table 1
COUNTS = {
    "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40, "mt-bench-hard": 37,
    "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154, "xstest-should-respond": 250, "donotanswer": 136,
    "math-prm": 447, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164, "hep-rust": 164,
}  # fmt: skip


def records(right: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Makes n records a subset, of which the scorer below gets the first k right."""
    return [
        {"prompt": f"{name} {i}", "chosen": "good" if i < k else "bad", "rejected": "bad" if i < k else "good", "subset": name}
        for name, (k, n) in right.items()
        for i in range(n)
    ]


def scorer(pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [float(response == "good") for _, response in pairs]


def test_the_averages_by_hand() -> None:
    result = reward_bench(
        records({"alpacaeval-easy": (3, 4), "mt-bench-med": (0, 1), "math-prm": (1, 2), "hep-go": (4, 4), "hep-js": (1, 4), "mine": (1, 1)}), scorer
    )
    assert result.subsets["alpacaeval-easy"].value == 3 / 4
    assert result.sections["Chat"].value == pytest.approx(3 / 5)
    assert result.sections["Reasoning"].value == pytest.approx((1 / 2 * 8 + 4 + 1) / 16)  # math weighs as much as the eight code records
    assert result.sections_macro["Chat"].value == pytest.approx((3 / 4 + 0) / 2)
    assert result.sections_macro["Reasoning"].value == pytest.approx((1 / 2 + 1 + 1 / 4) / 3)
    assert result.micro.value == pytest.approx(10 / 16)
    assert result.macro.value == pytest.approx((3 / 4 + 0 + 1 / 2 + 1 + 1 / 4 + 1) / 6)
    assert result.score is not None
    assert result.score.value == pytest.approx((3 / 5 + 9 / 16) / 2)
    assert (result.unknown_subsets, result.score.num) == (("mine",), 15)


def test_on_the_full_counts_math_weighs_984() -> None:
    result = reward_bench(records({name: (n // 2 if name == "math-prm" else n, n) for name, n in COUNTS.items()}), scorer, num_resamples=20)
    expected = (223 / 447 * 984 + 6 * 164) / (984 + 984)
    assert sum(COUNTS.values()) == 2985
    assert result.sections["Reasoning"].value == pytest.approx(expected)
    assert result.score is not None
    assert result.score.value == pytest.approx((1 + 1 + 1 + expected) / 4)
    assert set(COUNTS) == {name for section, names in SECTIONS.items() if section != "Prior Sets" for name in names}


def test_prior_sets_are_a_plain_mean_with_half_weight() -> None:
    result = reward_bench(records({"donotanswer": (3, 4), "shp": (1, 10), "summarize": (2, 2)}), scorer)
    assert result.sections["Prior Sets"].value == pytest.approx((0.1 + 1) / 2)
    assert result.score is not None
    assert result.score.value == pytest.approx((3 / 4 + 0.55 / 2) / 1.5)


def test_equal_scores_are_wrong_and_said() -> None:
    result = reward_bench(records({"shp": (5, 5)}), lambda pairs: [0.0] * len(pairs))
    assert (result.micro.value, result.num_equal) == (0.0, 5)


def test_the_interval_has_the_width_of_independent_subsets() -> None:
    # macro of two subsets: variance (p q / n + p q / n) / 4
    result = reward_bench(records({"one": (60, 100), "two": (60, 100)}), scorer, num_resamples=4000)
    assert (result.macro.high - result.macro.low) / (2 * 1.96) == pytest.approx(math.sqrt(2 * 0.24 / 100 / 4), rel=0.06)
    assert result.score is None


def test_records_of_one_prompt_are_redrawn_together() -> None:
    apart = reward_bench(records({"shp": (20, 40)}), scorer)
    together = [{**record, "prompt": f"{i % 20 // 2} {record['chosen']}"} for i, record in enumerate(records({"shp": (20, 40)}))]
    # pairs of records with one prompt and one outcome: half as many independent units
    assert reward_bench(together, scorer).micro.high - apart.micro.low > apart.micro.high - apart.micro.low


def test_the_scorer_is_asked_once_for_both_sides() -> None:
    asked: list[Any] = []

    def noted(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.append(list(pairs))
        return scorer(pairs)

    result = reward_bench([{"prompt": "p", "chosen": "good", "rejected": "bad", "subset": "s"}], noted)
    assert asked == [[("p", "good"), ("p", "bad")]]
    assert "micro 1.000" in str(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["subsets"]["s"]["value"] == 1.0


def test_wrong_input_is_refused() -> None:
    good = records({"shp": (1, 1)})
    with pytest.raises(AttuneError, match=r"records\[1\].rejected"):
        reward_bench([*good, {"prompt": "p", "chosen": "c", "subset": "s"}], scorer)
    for given, scores in (([], scorer), (good, lambda pairs: [1.0]), (good, lambda pairs: [math.nan, 1.0])):
        with pytest.raises(AttuneError):
            reward_bench(given, scores)
