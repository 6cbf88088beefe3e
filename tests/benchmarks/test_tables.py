"""The numbers of the benchmark's page, from results worked out by hand."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import growth, tables
from benchmarks.drawing import drawing
from benchmarks.material import SHAPES, Shape, draw, words

GIB = 2**30


def row(key: str, seconds: list[list[float]], peaks: list[float], losses: list[float], *, failed: str | None = None, precision: str = "bf16") -> dict[str, Any]:
    side = key.split("_")[0]
    sizes = [int(peak * GIB) for peak in peaks]
    return {"key": key, "side": side, "label": key, "precision": precision, "seconds": seconds, "peaks": sizes, "losses": losses, "failed": failed}


def shape_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"name": "s", "text": "", "kind": "dpo", "responses": 2, "groups_per_update": 4, "rows": list(rows)}


MEASURED = shape_of(
    row("trl_best", [[8.0, 12.0], [9.0, 9.0], [20.0, 20.0]], [8.0, 10.0, 9.0], [0.693, 0.70]),
    row("trl_repaired", [[4.0, 4.0], [4.0, 4.0], [5.0, 5.0]], [5.0, 4.0, 4.0], [0.693, 0.7001]),
    row("attune_fast", [[2.0, 2.0], [1.0, 3.0], [2.5, 2.5]], [3.0, 3.0, 2.0], [0.693, 0.6996]),
    row("attune_lean", [[3.0, 3.0]], [2.5], [0.693]),
    row("floor", [[1.6, 1.6]] * 3, [2.0] * 3, [9.0, 8.0]),
)


def test_a_median_is_over_turns_and_a_turn_is_a_mean() -> None:
    """Turns of (8+12)/2, 9 and 20 seconds: the median is 10."""
    rows = tables.by_key(MEASURED)
    assert tables.seconds(rows["trl_best"]) == 10.0
    assert tables.peak(rows["trl_best"]) == 10.0


def test_ratios_by_hand() -> None:
    rows = tables.by_key(MEASURED)
    assert tables.ratio(rows, "speed", "attune_fast", "trl_best") == pytest.approx(10.0 / 2.0)
    assert tables.ratio(rows, "time", "attune_fast", "floor") == pytest.approx(2.0 / 1.6)
    assert tables.ratio(rows, "memory", "attune_lean", "trl_best") == pytest.approx(2.5 / 10.0)


def test_a_row_with_fewer_turns_is_held_against_the_same_turns() -> None:
    """The lean row has the first turn only: 3 s, against TRL's first turn of 10 s, not against its median of all turns."""
    rows = tables.by_key(shape_of(row("trl_best", [[10.0], [4.0], [4.0]], [1.0] * 3, []), row("attune_lean", [[3.0]], [1.0], [])))
    assert tables.ratio(rows, "speed", "attune_lean", "trl_best") == pytest.approx(10.0 / 3.0)


def test_out_of_memory_is_a_result_and_no_ratio() -> None:
    failed = shape_of(row("trl_best", [], [], [], failed="out of memory"), row("attune_fast", [[1.0]], [1.0], []))
    assert tables.ratio(tables.by_key(failed), "speed", "attune_fast", "trl_best") is None
    assert "out of memory" in tables.shape_table(failed)[2]
    assert "out of memory" in drawing({"shapes": [failed]})


def test_goals_are_judged_in_their_direction() -> None:
    said = {(line.split("|")[2].strip(), line.split("|")[5].strip()) for line in tables.goals_table({"shapes": [MEASURED]})[2:]}
    assert said == {
        ("fast over TRL's best options, examples per second", "reached"),  # 5 of at least 4
        ("fast over the repaired TRL, examples per second", "reached"),  # 2 of at least 1.7
        ("fast over the floor, seconds", "reached"),  # 1.25 of at most 1.3
        ("lean over TRL's best options, peak memory", "reached"),  # 0.25 of at most 0.35
        ("lean over the repaired TRL, peak memory", "reached"),  # 0.5 of at most 0.65
        ("lean over the repaired TRL, examples per second", "missed"),  # 4/3 of at least 1.5
    }


def test_goals_are_also_held_against_trl_a_pair_at_a_time() -> None:
    """The lean row has 2.5 GiB: a quarter of TRL's 10 at once, half of its 5 with a pair at a time."""
    both = shape_of(*MEASURED["rows"], row("trl_best_split", [[6.0, 6.0]] * 3, [5.0] * 3, []))
    line = next(line for line in tables.goals_table({"shapes": [both]}) if "lean over TRL's best options, peak memory" in line)
    assert [cell.strip() for cell in line.split("|")[3:7]] == ["at most 0.35", "0.25", "reached", "0.50, missed"]


def test_losses_are_compared_over_the_updates_that_all_have_done() -> None:
    rows = tables.by_key(MEASURED)
    assert tables.difference(rows, ("trl_best", "attune_fast")) == pytest.approx(4e-4)
    assert tables.difference(rows, ("trl_best", "attune_lean")) == 0.0
    assert tables.difference(rows, ("trl_best", "nobody")) is None


def test_the_drawing_is_whole_and_longer_bars_are_longer_times() -> None:
    picture = ElementTree.fromstring(drawing({"shapes": [MEASURED]}))
    bars = [float(one.get("width", "0")) for one in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 10
    assert bars[0] / bars[2] == pytest.approx(10.0 / 4.0, rel=1e-2)  # seconds of TRL's best and of the repaired
    assert bars[1] / bars[3] == pytest.approx(10.0 / 5.0, rel=1e-2)  # their memory


def test_both_sides_get_the_same_ids() -> None:
    """A text of words stands for its ids, lengths keep to the shape with one place left for the stop token, and draws repeat."""
    shape = SHAPES[0]
    groups = draw(shape, 3)
    assert groups == draw(shape, 3)
    assert words([5, 0, 31]) == "w5 w0 w31"
    for group in groups:
        assert shape.prompt[0] <= len(group["prompt"]) <= shape.prompt[1]
        assert all(shape.response[0] <= len(ids) + 1 <= shape.response[1] for ids in group["responses"])
        assert max(max(ids) for ids in (group["prompt"], *group["responses"])) < shape.vocabulary - 3


def test_work_of_an_update_by_hand() -> None:
    """A prompt of 3 and two responses of 2: 7 tokens; 6 pairs in the prompt, and (2 * 3 + 3) for each response; 4 response tokens of 10 words."""
    shape = Shape(name="s", vocabulary=10, prompt=(3, 3), response=(2, 2), groups_per_update=1)
    assert growth.work(shape) == {"one": 1, "T": 7, "A": 6 + 2 * 9, "MV": 40, "V": 10}


def test_the_fit_finds_the_cost_it_was_made_from() -> None:
    made = {"one": 0.5, "T": 2e-4, "A": 3e-8, "MV": 0.0, "V": 1e-5}
    shapes = [shape for one in growth.series(quick=False).values() for shape in one]
    points = [(growth.work(shape), sum(made[term] * growth.work(shape)[term] for term in made)) for shape in shapes]
    found, error = growth.fit(points, growth.SECONDS_TERMS)
    assert error < 1e-9
    assert found == pytest.approx(made, abs=1e-15)


def test_the_page_holds_every_number_of_a_row() -> None:
    results = {
        "machine": {"text": "two cores"},
        "versions": {"trl": "1"},
        "settings": {"turns": 3, "warm": 1, "timed": 2, "threads": 2, "rows": ["floor: bare"]},
        "shapes": [json.loads(json.dumps(MEASURED))],
    }
    text = tables.page(results)
    assert "| attune_fast | bf16 | 2.00 (2.00-2.50) | 2.00 | 3.00 GiB | 5.00x | 2.00x | 1.25x | 0.30x | 0.60x |" in text
    assert "![Seconds and memory of each configuration](speed.svg)" in text


def test_the_growth_page_holds_what_was_measured_and_what_the_fit_says() -> None:
    """A cost of 0.1 + 1e-3 T seconds at 384 unique tokens is 0.484."""
    shape = growth.series(quick=False)["prompt"][0]
    point = {"name": shape.name, "work": growth.work(shape), "seconds": [0.5, 0.4, 0.9], "peak": GIB, "failed": None}
    cost = {"one": 0.1, "T": 1e-3, "A": 0.0, "MV": 0.0, "V": 0.0}
    fits = {"seconds": cost, "seconds_error": 0.04, "gib": {"one": 1.0, "T": 0.0, "V": 0.0}, "gib_error": 0.0}
    streamed = {"records": 1_000, "data_mib": 2, "start_seconds": 3.0, "start_cpu_seconds": 2.0, "resident_mib": 500.0, "peak_mib": 510.0}
    results = {"machine": {"text": "two cores"}, "threads": 2, "series": {"prompt": [point]}, "fit": fits, "data": [streamed], "data_updates": 50}
    text = growth.page(results)
    assert "| 256 | 384 | " in text
    assert "| 0.500 | 1.00 GiB | 0.484 |" in text
    assert "| 1,000 | 2 | 3.0 | 2.0 | 500 | 1.000 | 510 |" in text
