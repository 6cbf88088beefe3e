"""LLMBar: the gold label, and one judge's verdict in each order; a verdict that is none is missing, not a tie."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.llmbar import FORMAT

SOURCE = Source(file="judges.jsonl", line=1, format="llmbar")


def said(first: object, swapped: object) -> list[dict[str, Any]]:
    """The `results` of a judge that named these winners."""
    return [
        {
            "swap = False": {"completion": ["Output (a)", "stop"], "winner": first},
            "swap = True": {"completion": ["Output (b)", "stop"], "winner": swapped},
        }
    ]


RECORD: dict[str, Any] = {
    "subset": "Processed/MT-Bench",
    "evaluator": "GPT-4/CoT",
    "index": 3,
    "input": "Name a prime.",
    "output_1": "Two.",
    "output_2": "Four.",
    "label": 1,
    "results": said("1", "2"),
}


def test_gold_and_both_orders_are_three_verdicts() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert group.id == "llmbar-Processed/MT-Bench-3"
    assert [(verdict.annotator, verdict.tiers, verdict.presented, verdict.reason) for verdict in group.verdicts] == [
        ("gold", ((0,), (1,)), None, None),
        ("judge:GPT-4/CoT", ((0,), (1,)), (0, 1), "Output (a)"),
        ("judge:GPT-4/CoT", ((1,), (0,)), (1, 0), "Output (b)"),
    ]
    assert group.meta == {"subset": "Processed/MT-Bench", "evaluator": "GPT-4/CoT", "index": 3, "results": RECORD["results"]}


@pytest.mark.parametrize("winner", [None, "0", "3", 1, "Tie"])
def test_a_winner_that_is_none_of_the_two_is_missing_and_noted(winner: object) -> None:
    (group,) = FORMAT.parse(RECORD | {"results": said("2", winner)}, SOURCE)
    assert [verdict.presented for verdict in group.verdicts] == [None, (0, 1)]
    assert list(group.meta["doubts"]) == ["results[0].swap = True.winner"]


def test_the_last_result_decides() -> None:
    (group,) = FORMAT.parse(RECORD | {"results": [{"criteria": "primes"}, *said("2", "2")]}, SOURCE)
    assert [verdict.tiers for verdict in group.verdicts[1:]] == [((1,), (0,))] * 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": 0}, "label"),
        ({"label": "1"}, "label"),
        ({"results": []}, "results"),
        ({"results": [{}]}, "results[0].swap = False"),
        ({"index": None}, "index"),
    ],
)
def test_a_wrong_value_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | change, SOURCE))
    assert caught.value.field == field
