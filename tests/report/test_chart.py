from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.report.chart import MOST, Series, bucketed, chart, nice_ticks, path, smoothed, value_scale


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 4, [0, 1, 2, 3, 4]),
        (0.13, 0.94, [0.0, 0.5, 1.0]),
        (-7.4, 0.2, [-8, -6, -4, -2, 0, 2]),
        (0, 1e-3, [0, 0.0005, 0.001]),
    ],
)
def test_ticks_by_hand(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_enclose_the_values_with_even_steps_of_1_2_or_5(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    steps = [after - before for before, after in pairwise(ticks)]
    slack = 1e-6 * max(steps)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert max(steps) - min(steps) <= 1e-6 * max(abs(tick) for tick in ticks)
    assert 2 <= len(ticks) <= 7
    assert float(f"{steps[0]:.3e}".split("e")[0]) in (1.0, 2.0, 5.0)


def test_coordinates_of_a_known_series() -> None:
    """Height 210 with 26 below and 10 above: 0 lies at 184, 4 at 10. One-digit labels leave 8 + 7.2 = 15.2 on the left; the right end is 360 - 10."""
    drawn = chart("loss", "nats", [Series("loss", [(0, 0.0), (5, 2.0), (10, 4.0)])], (0, 10))
    assert drawn is not None
    assert drawn.y.ticks == ((184.0, "0"), (140.5, "1"), (97.0, "2"), (53.5, "3"), (10.0, "4"))
    assert drawn.drawn[0].line == "M15.2 184.0L182.6 97.0L350.0 10.0"
    assert drawn.x.ticks == ((15.2, "0"), (182.6, "5"), (350.0, "10"))
    assert drawn.drawn[0].hover == ((15.2, 184.0, "0", "0"), (182.6, 97.0, "5", "2"), (350.0, 10.0, "10", "4"))
    assert drawn.said == "loss: from 0 at update 0 to 4 at update 10; smallest 0, largest 4."
    assert drawn.rows == (("0", "0"), ("5", "2"), ("10", "4"))


def test_a_line_to_compare_with_is_inside_the_axis() -> None:
    """Values from -3 to -1 and a line at 0: the axis runs from -3 to 0, so the line is at the top and -3 at the bottom."""
    drawn = chart("change", "nats", [Series("chosen", [(1, -1.0), (2, -3.0)])], (1, 2), compare=0.0)
    assert drawn is not None
    assert drawn.zero == 10.0
    assert [label for _, label in drawn.y.ticks] == ["−3", "−2", "−1", "0"]
    assert drawn.drawn[0].line.endswith("L350.0 184.0")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.69281, 0.69315], ["0.6928", "0.6929", "0.6930", "0.6931", "0.6932"]),
        ([0.0, 2e-5], ["0", "5e−6", "1e−5", "1.5e−5", "2e−5"]),
        ([1e6, 1.0004e6], [f"1\u202f000\u202f{hundreds}00" for hundreds in range(5)]),
        ([-1200.0, 900.0], ["−2\u202f000", "−1\u202f000", "0", "1\u202f000"]),
    ],
)
def test_no_two_ticks_read_alike(values: list[float], labels: list[str]) -> None:
    assert [label for _, label in value_scale(values, (), share=False, start=0, stop=1).ticks] == labels


def test_shares_are_in_per_cent() -> None:
    drawn = chart("accuracy", "share", [Series("accuracy", [(1, 0.5), (2, 0.75)])], (1, 2), include=(1.0,), share=True)
    assert drawn is not None
    assert drawn.unit == "per cent"
    assert [label for _, label in drawn.y.ticks] == ["40\u202f%", "60\u202f%", "80\u202f%", "100\u202f%"]
    assert drawn.rows[1] == ("2", "75.00\u202f%")


def test_equal_values_and_a_single_update_still_have_an_axis() -> None:
    drawn = chart("loss", "nats", [Series("loss", [(7, 0.0)])], (7, 7))
    assert drawn is not None
    assert drawn.drawn[0].line == f"M{(drawn.x.start + 350) / 2:.1f} 97.0h0"
    assert value_scale([2.0, 2.0], (), share=False, start=0, stop=1).at(2.0) == 0.5


def test_no_finite_value_no_chart() -> None:
    assert chart("loss", "nats", [Series("loss", [(1, None)])], (1, 2)) is None
    assert chart("loss", "nats", [Series("loss", [])], (1, 2)) is None


def test_gaps_lift_the_pen_and_are_counted() -> None:
    assert path([(0, 0), (1, 1), None, (3, 3), None, (5, 5), (6, 6)]) == "M0.0 0.0L1.0 1.0M3.0 3.0h0M5.0 5.0L6.0 6.0"
    drawn = chart("loss", "nats", [Series("loss", [(1, 1.0), (2, None), (3, 2.0)])], (1, 3))
    assert drawn is not None
    assert drawn.gaps == ("loss: 1 of 3 values were not finite and are gaps.",)
    assert drawn.drawn[0].line.count("M") == 2
    assert drawn.rows[1] == ("2", "—")


def test_many_points_become_means_with_their_range() -> None:
    points = [(float(update), float(update % 3)) for update in range(3 * MOST)]
    assert bucketed(points)[:2] == [(1.0, 1.0, 0.0, 2.0), (4.0, 1.0, 0.0, 2.0)]
    assert len(bucketed(points)) == MOST
    assert bucketed([(1.0, None)]) == [None]
    drawn = chart("loss", "nats", [Series("loss", points)], (0, 3 * MOST - 1))
    assert drawn is not None
    assert drawn.drawn[0].band.startswith("M")
    assert drawn.drawn[0].line.count("L") == MOST - 1
    assert "mean of 3 updates" in drawn.manners[0]
    assert drawn.rows[0][1] == "0"
    assert len(drawn.rows) == 10


def test_moving_average_by_hand() -> None:
    """48 values: reach 2. Inside, the mean of five; second from the end, of three; at the end, the value itself."""
    values = [float(index**2) for index in range(48)]
    found = smoothed(values)
    assert found[10] == pytest.approx((64 + 81 + 100 + 121 + 144) / 5)
    assert found[1] == pytest.approx((0 + 1 + 4) / 3)
    assert found[0] == 0.0
    assert found[-1] == 47.0**2


def test_the_table_spreads_over_all_updates() -> None:
    held = Series("held out", [(0, 5.0), (99, 6.0)], "dots")
    drawn = chart("loss", "nats", [Series("loss", [(float(update), float(update)) for update in range(100)]), held], (0, 99))
    assert drawn is not None
    assert [row[0] for row in drawn.rows] == ["0", "11", "22", "33", "44", "55", "66", "77", "88", "99"]
    assert drawn.rows[0] == ("0", "0", "5")
    assert drawn.rows[1] == ("11", "11", "")


def test_a_legend_names_each_line_style_once() -> None:
    series = [Series("chosen", [(1, 1.0), (2, 2.0)]), Series("chosen, held out", [(1, 1.0)], "dots"), Series("rejected", [(1, 0.0)], tone=1)]
    both, one = chart("x", "nats", series, (1, 2)), chart("x", "nats", series[:2], (1, 2))
    assert both is not None
    assert one is not None
    assert [drawn.label for drawn in both.legend] == ["chosen", "rejected"]
    assert one.legend == ()
