"""Numbers into shapes: round ticks, nothing outside the frame, no spike lost."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages import charts
from pages.story import Point
from tests.core.worlds import START

VALUES = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


@given(VALUES, VALUES)
def test_ticks_are_round_few_and_hold_everything(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    found = charts.ticks(low, high, 5)
    assert found[0] <= low + 1e-6 * max(1, abs(low))
    assert found[-1] >= high - 1e-6 * max(1, abs(high))
    assert 2 <= len(found) <= 13
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 10, [0, 2, 4, 6, 8, 10]), (1.3, 2.9, [1.0, 1.5, 2.0, 2.5, 3.0]), (5, 5, [5.0, 5.1, 5.2, 5.3, 5.4, 5.5])]
)
def test_ticks_as_a_person_would_choose_them(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high, 5) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 10**7), VALUES), min_size=1, max_size=60))
def test_every_point_of_a_chart_lies_in_its_frame(values: list[tuple[int, float]]) -> None:
    drawn = charts.chart("Loss", "nats", {"train": [Point(1, step, value) for step, value in sorted(values)]})
    assert drawn is not None
    for line in drawn.lines:
        spots = [tuple(map(float, pair.split(","))) for pair in line.path.lstrip("M").split("L")] if line.path else line.dots
        for x, y in spots:
            assert charts.LEFT - 0.1 <= x <= charts.WIDTH - charts.RIGHT + 0.1
            assert charts.TOP - 0.1 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1


def test_a_spike_is_not_thinned_away() -> None:
    points = [(float(n), 100.0) for n in range(10_000)]
    points[6_543] = (6543.0, 3.0)
    few = charts.thinned(points)
    assert len(few) <= charts.MAX_POINTS + 2
    assert (6543.0, 3.0) in few
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert few == sorted(few)


def test_attempts_are_lines_of_their_own_and_what_is_not_finite_is_left_out() -> None:
    points = [Point(1, 1, 3.0), Point(1, 2, math.inf), Point(1, 3, 2.0), Point(2, 2, 2.5)]
    drawn = charts.chart("Loss", "nats", {"train": points})
    assert drawn is not None
    assert [bool(line.path) for line in drawn.lines] == [True, False]
    assert len(drawn.lines[1].dots) == 1


def test_nothing_to_draw_is_no_chart() -> None:
    assert charts.chart("Loss", "nats", {"train": [], "eval": [Point(1, 1, math.nan)]}) is None


def test_bars_lie_on_the_time_line_and_the_shortest_can_be_seen() -> None:
    span = charts.Span("1", START + timedelta(hours=1), START + timedelta(hours=1, seconds=1), "spot", lost_s=3600, warned_at=START, saves=(START,))
    line = charts.time_line(START, START + timedelta(hours=10), [span, charts.Span("2", START + timedelta(hours=2), None, "on-demand")])
    first, second = line.bars
    assert first.width == charts.SHORTEST_BAR == first.lost_width
    assert second.x + second.width == pytest.approx(charts.WIDTH - charts.RIGHT)
    assert first.warned_x == first.saves[0] == charts.LEFT
    assert 2 <= len(line.ticks) <= 8


@pytest.mark.parametrize(("seconds", "text"), [(0, "0m"), (1800, "30m"), (5400, "1h30"), (7200, "2h"), (3 * 86400, "3d"), (3 * 86400 + 7200, "3d2h")])
def test_a_time_is_short(seconds: int, text: str) -> None:
    assert charts.elapsed(timedelta(seconds=seconds)) == text
