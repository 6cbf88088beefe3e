from __future__ import annotations

from typing import Any

import pytest

from attune.report.evidence import panels, results, unread, verdict
from tests.report.fake_run import EVALS, REWARD_EVALS

WIN: dict[str, Any] = EVALS["win_rate"]


def won(value: float, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {**WIN, "value": value, "low": low, "high": high, **more}


@pytest.mark.parametrize(
    ("entry", "standing"),
    [
        (won(0.68, 0.61, 0.75), "better"),
        (won(0.52, 0.49, 0.55), "unsettled"),
        (won(0.52, 0.50, 0.55), "unsettled"),
        (won(0.40, 0.35, 0.45), "worse"),
        (won(0.68, None, None), "unknown"),
        (won(0.68, 0.61, None), "unknown"),
        (won(0.68, 0.61, 0.75, baseline=None), "better"),
        (won(0.68, 0.61, 0.75, baseline=0.8), "worse"),
        (won(3.0, 2.0, 4.0, kind="mean", baseline=5.0, better="low"), "better"),
        (won(3.0, 2.0, 4.0, kind="mean", baseline=1.0, better="low"), "worse"),
        (won(3.0, 2.0, 4.0, kind="mean", baseline=None), "unknown"),
        (won(3.0, 2.0, 4.0, kind="mean", baseline=1.0, better=None), "unknown"),
    ],
)
def test_standing_is_where_the_whole_interval_lies(entry: dict[str, Any], standing: str) -> None:
    assert results({"it": entry})[0].standing == standing


def test_what_holds_no_number_is_named() -> None:
    held = {"good": WIN, "nan": won(float("nan"), 0.1, 0.2), "text": {"value": "0.7"}, "bare": 3, "true": {"value": True}}
    assert [result.name for result in results(held)] == ["good"]
    assert unread(held) == ["nan", "text", "bare", "true"]


def test_positions_of_a_win_rate_are_its_shares() -> None:
    panel = panels(results({"win_rate": WIN}))[0]
    mark = panel.marks[0]
    assert (mark.at, mark.low, mark.high, panel.baseline) == (68.4, 61.2, 74.9, 50.0)
    assert panel.ticks == ((0.0, "0\u202f%"), (50.0, "50\u202f%"), (100.0, "100\u202f%"))


def test_before_and_after_share_an_axis() -> None:
    """Gold reward 0.4127 [0.377, 0.448] to 0.6312 [0.592, 0.67]: ticks 0.3, 0.4 ... 0.7, so 0.4127 lies at 0.1127 / 0.4 of it."""
    found = panels(results({name: EVALS[name] for name in ("gold_start", "gold_trained")}))
    assert len(found) == 1
    before, after = found[0].marks
    assert (before.label, after.label) == ("start", "trained")
    assert before.at == pytest.approx(100 * 0.1127 / 0.4, abs=0.006)
    assert after.high == pytest.approx(100 * 0.37 / 0.4, abs=0.006)
    assert found[0].change == "It rose by 0.2185 points; the two intervals do not overlap."
    assert (found[0].baseline, found[0].title) == (None, "Mean score by gold")


def test_a_result_with_its_value_before_training_is_a_pair() -> None:
    """77.2 % [70.2, 83.3] after 50.3 % [42.7, 57.9]: 26.9 points, and the intervals are apart; both lie on the axis of shares with chance at its middle."""
    (panel,) = panels(results(REWARD_EVALS))
    assert [mark.at for mark in panel.marks] == [50.29, 77.19]
    assert (panel.baseline, panel.title) == (50.0, "reward: held-out pairs ranked right by the reward model")
    assert panel.change == "It rose by 26.9 percentage points; the two intervals do not overlap."


def test_better_than_chance_is_not_better_than_before() -> None:
    """Above 50 % but within the interval before training: nothing was learned for certain."""
    entry = {**REWARD_EVALS["accuracy_reward"], "value": 0.62, "low": 0.58, "high": 0.66}
    assert results({"a": {**entry, "before": None}})[0].standing == "better"
    assert results({"a": {**entry, "before": {"value": 0.6, "low": 0.56, "high": 0.64}}})[0].standing == "unsettled"
    assert results({"a": {**entry, "before": {"value": None, "low": None, "high": None}}})[0].before is None


def test_half_a_pair_stands_alone() -> None:
    found = panels(results({"gold_start": EVALS["gold_start"], "length_trained": EVALS["length_trained"]}))
    assert [len(panel.marks) for panel in found] == [1, 1]
    assert [panel.change for panel in found] == ["", ""]


def test_overlap_and_fall_are_said() -> None:
    pair = {"r_start": won(0.6, 0.5, 0.7, kind="accuracy"), "r_trained": won(0.55, 0.45, 0.65, kind="accuracy")}
    assert panels(results(pair))[0].change == "It fell by 5.00 percentage points; the two intervals overlap."


def test_a_share_beyond_one_is_not_shown_in_per_cent() -> None:
    result = results({"w": won(68.4, 61.2, 74.9, unit="points")})[0]
    assert (result.share, result.said) == (False, "68.40 points")


def test_verdicts() -> None:
    good = verdict(results(EVALS), ended=True)
    assert good.headline == "It worked."
    assert good.sentence == (
        "Win rate of the trained policy against its start: 68.4\u202f%. The 95\u202f% interval 61.2\u202f% to 74.9\u202f% over 200 comparisons "
        "lies wholly above 50\u202f%, the mark of no difference."
    )
    assert good.cautions == ()
    assert "includes 50\u202f%" in verdict(results({"w": won(0.52, 0.49, 0.55)}), ended=True).sentence
    bad = verdict(results({"w": won(0.40, 0.35, 0.45)}), ended=True)
    assert bad.headline == "It got worse."
    assert "lies wholly below" in bad.sentence
    assert verdict([], ended=True).headline == "Trained; not yet judged."
    assert verdict([], ended=False).headline == "Not finished."
    assert verdict(results({"w": won(0.9, None, None)}), ended=True).standing == "unknown"


def test_the_gold_reward_decides_then_a_win_rate_then_ranking() -> None:
    ranks = {**REWARD_EVALS, "accuracy_likelihood": won(0.3, 0.25, 0.35, kind="accuracy"), "accuracy_implicit_reward": won(0.7, 0.65, 0.75, kind="accuracy")}
    proxy, gold = {"win_rate_proxy": won(0.4, 0.35, 0.45)}, {"win_rate_gold": WIN}
    assert verdict(results({**ranks, **proxy, **gold}), ended=True).headline == "It worked."
    assert verdict(results({**ranks, **proxy}), ended=True).headline == "It got worse."
    learned = verdict(results(ranks), ended=True)
    assert learned.headline == "It learned the preference."
    assert learned.sentence.endswith("Before training it was 50.3\u202f%; the two intervals do not overlap.")
    assert learned.cautions == ()
    implicit = verdict(results({"accuracy_implicit_reward": ranks["accuracy_implicit_reward"]}), ended=True)
    assert "whether responses are better was not measured" in implicit.cautions[0]


def test_a_reward_that_fell_while_wins_rose_is_a_caution() -> None:
    held = {**EVALS, "gold_start": EVALS["gold_trained"], "gold_trained": EVALS["gold_start"]}
    assert verdict(results(held), ended=True).cautions == ("Mean score by gold moved the other way, from 0.6312 points to 0.4127 points.",)


def test_a_result_that_contradicts_the_first_is_a_caution() -> None:
    held = {"win_rate": WIN, "other": won(0.3, 0.25, 0.35, title="Win rate by people")}
    assert verdict(results(held), ended=True).cautions == ("Win rate by people points the other way: 30.0\u202f%.",)


def test_the_win_rate_decides_before_other_results() -> None:
    held = {"accuracy": won(0.3, 0.25, 0.35, kind="accuracy"), "win_rate": WIN}
    assert verdict(results(held), ended=True).standing == "better"
