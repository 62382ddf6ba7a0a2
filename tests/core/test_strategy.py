"""The choice itself, rule by rule: what it takes to leave on-demand, and how long spot is waited for (docs/placement.md)."""

from dataclasses import replace

import pytest

from control_plane.core.strategy import KNOBS, Situation, SpotOffer, choose, longest_wait_s, pays, scarcity

H = 3600.0
#: Twenty hours of work, twelve-minute starts, one pool of two with capacity; slack to the hour by ``with_slack``.
CALM = Situation(
    work_left_s=20 * H,
    time_left_s=40 * H,
    delay_s=0.2 * H,
    return_delay_s=0.2 * H,
    step_s=60.0,
    blind_s=0.0,
    running="on-demand",
    out_s=0.0,
    on_demand_usd_per_h=3.0,
    offers=[SpotOffer(1.0, 1.0 * H)],
    pools=2,
)


def with_slack(slack_s: float, **changes: object) -> Situation:
    return replace(CALM, time_left_s=CALM.work_left_s + CALM.delay_s + slack_s, **changes)


def lasting(life_s: float) -> list[SpotOffer]:
    return [SpotOffer(1.0, life_s)]


def test_leaving_on_demand_asks_for_a_life_of_so_many_break_evens_and_a_start_for_less() -> None:
    """Break-even here: 0.2 h x 3 / (3 - 1) = 0.3 h."""
    returns, takes = KNOBS.return_life * 0.3 * H, KNOBS.take_life * 0.3 * H
    for running, least_s in (("on-demand", returns), ("wait", takes)):
        enough, too_short = (with_slack(10 * H, running=running, offers=lasting(life_s)) for life_s in (least_s + 1, least_s - 1))
        assert pays(enough, enough.offers[0])
        assert not pays(too_short, too_short.offers[0])


def test_with_slack_below_the_reserve_on_demand_is_left_only_for_spot_that_lasts_the_longer() -> None:
    reserve_s = KNOBS.wait_reserve * CALM.work_left_s
    plenty, scarce = with_slack(reserve_s), with_slack(reserve_s / 4)
    assert (scarcity(plenty), scarcity(scarce)) == (1.0, pytest.approx(2.0))
    just_s = 1.5 * KNOBS.return_life * 0.3 * H
    assert choose(replace(plenty, offers=lasting(just_s))).kind == "spot"
    assert choose(replace(scarce, offers=lasting(just_s))).kind == "on-demand"
    assert choose(replace(scarce, offers=lasting(1.4 * just_s))).kind == "spot"
    assert choose(replace(scarce, running="wait", offers=lasting(1.1 * KNOBS.take_life * 0.3 * H))).kind == "spot", (
        "from nothing, a start is to be paid for anyway"
    )


def test_no_slack_at_all_is_no_division_by_zero_and_a_job_behind_its_line_stays_on_on_demand() -> None:
    assert choose(with_slack(0.0, delay_s=0.0, return_delay_s=0.0, offers=lasting(0.1 * H))).kind == "spot"
    assert choose(with_slack(-1 * H, offers=lasting(100 * H))).kind == "on-demand"


def test_spot_is_waited_for_the_longer_the_more_pools_may_bring_it_back() -> None:
    above_s = 0.5 * H
    one, three = (with_slack(KNOBS.wait_reserve * CALM.work_left_s + above_s, running="wait", offers=[], pools=pools) for pools in (1, 3))
    assert longest_wait_s(one) == pytest.approx(KNOBS.wait_share * above_s)
    assert longest_wait_s(three) == pytest.approx(3 * KNOBS.wait_share * above_s)
    assert [choose(replace(moment, out_s=1 * H)).kind for moment in (one, three)] == ["on-demand", "wait"]
    assert longest_wait_s(replace(one, pools=60)) == KNOBS.wait_most_s


def test_no_number_of_pools_makes_it_wait_with_less_slack_than_the_reserve() -> None:
    moment = with_slack(0.99 * KNOBS.wait_reserve * CALM.work_left_s, running="wait", offers=[], pools=60)
    assert choose(moment).kind == "on-demand"


@pytest.mark.parametrize(("running", "kept_s"), [("wait", 0.2 * H + 700), ("on-demand", 0.1 * H + 700)])
def test_spot_is_started_only_with_slack_for_a_second_start_and_for_a_loss_that_goes_unseen(running: str, kept_s: float) -> None:
    """Leaving on-demand, the change itself is what is lost; from nothing, a whole start."""
    changes = {"running": running, "blind_s": 700.0, "return_delay_s": 0.1 * H, "offers": lasting(100 * H)}
    assert choose(with_slack(kept_s, **changes)).kind == "spot"
    assert choose(with_slack(kept_s - 1, **changes)).kind != "spot"


def test_spot_is_waited_for_only_with_slack_for_the_next_look_and_for_a_loss_that_goes_unseen() -> None:
    """However much of it the reserve would leave: a minute of work is left, so there is next to no reserve."""
    changes = {"work_left_s": 60.0, "running": "wait", "blind_s": 700.0, "offers": []}
    moments = [replace(CALM, **changes, time_left_s=60.0 + CALM.delay_s + slack_s) for slack_s in (760.0, 759.0)]
    assert [choose(moment).kind for moment in moments] == ["wait", "on-demand"]
