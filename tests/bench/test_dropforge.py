"""The control plane's own strategy in the paper's model: never late, whatever spot does, and it takes what pays."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.spot.model import Settings, Window, is_late, replay
from bench.spot.policies import Dropforge
from bench.spot.timing import place_ms
from tests.bench.test_spot import H, window


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Window, Settings]:
    """Any availability of one to three pools, any gap and delay; a deadline that on-demand from the start keeps, be it to the second."""
    gap_s, delay_s = draw(st.sampled_from((60.0, 195.0, 600.0, 3600.0))), draw(st.sampled_from((0.0, 100.0, 720.0, 1440.0, 5000.0)))
    work_s = draw(st.floats(gap_s, 40 * gap_s))
    deadline_s = work_s + delay_s + draw(st.sampled_from((0.0, 1.0, gap_s, 2 * delay_s, 20 * gap_s)))
    ticks = int(deadline_s / gap_s) + 2
    rows = draw(st.lists(st.text("01", min_size=ticks, max_size=ticks), min_size=1, max_size=3))
    return window(*rows, gap_s=gap_s, spot=draw(st.sampled_from((0.3, 1.0, 2.9, 4.0)))), Settings(work_s, deadline_s, delay_s)


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_it_is_never_late_where_on_demand_from_the_start_would_not_have_been(found: tuple[Window, Settings]) -> None:
    one, job = found
    assert not is_late(replay(one, job, Dropforge()), job)


def test_spot_dearer_than_on_demand_is_left_alone() -> None:
    run = replay(window("1" * 60, spot=3.5), Settings(10 * H, 40 * H, 0.1 * H), Dropforge())
    assert run.spot_ticks == 0


def test_with_time_to_spare_it_waits_for_spot_and_with_none_it_does_not() -> None:
    late_spot = "0" * 3 + "1" * 60
    assert replay(window(late_spot), Settings(10 * H, 30 * H, 0.1 * H), Dropforge()).on_demand_ticks == 0
    assert replay(window(late_spot), Settings(10 * H, 10.2 * H, 0.1 * H), Dropforge()).spot_ticks == 0


def test_on_demand_is_left_for_spot_once_that_was_seen_to_last() -> None:
    run = replay(window("0" * 6 + "1" * 60), Settings(24 * H, 30 * H, 0.2 * H), Dropforge())
    assert run.on_demand_ticks > 0
    assert run.spot_ticks > run.on_demand_ticks


def test_a_pool_that_is_lost_again_and_again_is_passed_over_for_one_that_lasts() -> None:
    asked: list[int] = []
    policy = Dropforge()

    def noted(sight: Any) -> int:
        asked.append(policy(sight))
        return asked[-1]

    flaky, steady = "10" * 60, "0000000000" + "1" * 110
    replay(window(flaky, steady, gap_s=600.0), Settings(15 * H, 19 * H, 0.1 * H), noted)
    assert set(asked[20:60]) == {1}


def test_one_decision_with_sixty_pools_is_measured() -> None:
    pools, took_ms = place_ms()
    assert pools == 60
    assert took_ms > 0
