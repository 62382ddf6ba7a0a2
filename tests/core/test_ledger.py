"""Money: what is billed, by which price, in which month; held to a bill that is reckoned another way, minute by minute."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core import ledger, months
from control_plane.core.records import Attempt, AttemptEnd, LaunchPlan, Market, Pool, PriceChange
from control_plane.core.state import Job
from jobspec.heartbeat import Heartbeat, Phase
from tests.core.worlds import FIRST, SECOND, START, Story, at, heartbeat, new_job

ON_DEMAND = 1.006


def attempt(
    number: int = 1, *, launched_s: float = 0, gone_s: float | None = None, market: Market = Market.SPOT, usd_per_h: float = 0.4, **facts: Any
) -> Attempt:
    pool = Pool(instance_type="g5.xlarge", zone="us-east-1a", subnet_id="subnet-a")
    plan = LaunchPlan(
        attempt=number,
        try_number=1,
        market=market,
        pools=(pool,),
        template_id="lt-1",
        template_version="1",
        role_id="AROATEST",
        client_token=f"t{number}",
        deadline_at=at(1e6),
        planned_at=START,
    )
    known: dict[str, Any] = {
        "plan": plan,
        "instance_id": f"i-{number:017x}",
        "instance_type": "g5.xlarge",
        "zone": "us-east-1a",
        "usd_per_h": usd_per_h,
        "on_demand_usd_per_h": ON_DEMAND,
        "launched_at": at(launched_s),
        "gone_at": None if gone_s is None else at(gone_s),
    }
    return Attempt(**known | facts)


def job(*attempts: Attempt) -> Job:
    return new_job().model_copy(update={"attempts": attempts})


def beat(step: int, *, at_s: float, first_step: int = 0, stages_s: dict[str, float] | None = None) -> Heartbeat:
    return Heartbeat(
        job_id="tale-1", attempt=1, instance_id=FIRST, seq=1, at=at(at_s), phase=Phase.TRAINING, step=step, first_step=first_step, stages_s=stages_s or {}
    )


MINUTES = st.integers(min_value=0, max_value=60 * 24 * 3)
PRICES = st.floats(min_value=0.01, max_value=5, allow_nan=False)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    launched, lives = draw(MINUTES), draw(MINUTES)
    changes = sorted(draw(st.lists(st.tuples(MINUTES, PRICES), max_size=5, unique_by=lambda change: change[0])))
    return attempt(
        launched_s=60 * launched,
        gone_s=60 * (launched + lives),
        market=draw(st.sampled_from(Market)),
        usd_per_h=draw(PRICES),
        ended_by=draw(st.sampled_from(["ec2", "dropforge", None])),
        price_changes=tuple(PriceChange(at=at(60 * minute), usd_per_h=usd) for minute, usd in changes),
    )


def bill(one: Attempt) -> float:
    """Minute by minute, as a meter would: the price in force at its beginning. Written apart from the ledger on purpose."""
    assert one.gone_at is not None
    minutes = int((one.gone_at - one.launched_at).total_seconds() // 60)
    if one.market is Market.SPOT and one.ended_by == "ec2" and minutes < 60:
        return 0.0
    total = 0.0
    for minute in range(minutes):
        moment = one.launched_at + timedelta(minutes=minute)
        price = one.usd_per_h
        for change in one.price_changes:
            if one.launched_at < change.at <= moment:
                price = change.usd_per_h
        total += price / 60
    return total


@settings(max_examples=60, deadline=None)
@given(st.lists(attempts(), min_size=1, max_size=3))
def test_the_receipt_equals_the_meters_bill_to_the_cent(lives: list[Attempt]) -> None:
    of = job(*lives)
    billed = sum(bill(one) for one in lives)
    assert round(ledger.receipt(of, at(0), 150).cost_usd, 2) == pytest.approx(round(billed, 2), abs=0.0101)
    assert ledger.job_cost_usd(of, at(0)) == pytest.approx(billed, abs=1e-6)
    assert sum(ledger.by_month(of, at(0)).values()) == pytest.approx(billed, abs=1e-6)


def test_each_price_counts_for_the_time_that_it_was_in_force() -> None:
    changes = (PriceChange(at=at(-60), usd_per_h=9.0), PriceChange(at=at(3600), usd_per_h=0.8), PriceChange(at=at(9000), usd_per_h=9.0))
    one = attempt(gone_s=7200, usd_per_h=0.4, price_changes=changes)
    assert ledger.cost_usd(one, at(99999)) == pytest.approx(0.4 + 0.8), "before the launch and after the end no price counts"


@pytest.mark.parametrize(
    ("facts", "usd"),
    [
        ({"ended_by": "ec2", "gone_s": 3599}, 0.0),
        ({"ended_by": "ec2", "gone_s": 3600}, 0.4),
        ({"ended_by": "dropforge", "gone_s": 1800}, 0.2),
        ({"ended_by": "ec2", "gone_s": 1800, "market": Market.ON_DEMAND}, 0.2),
        ({"gone_s": None}, 0.2),
    ],
    ids=["EC2 in the first hour", "EC2 after it", "we in the first hour", "on-demand", "still alive"],
)
def test_the_first_hour_is_free_only_where_ec2_takes_a_spot_instance_back(facts: dict[str, Any], usd: float) -> None:
    assert ledger.cost_usd(attempt(**facts), at(1800)) == pytest.approx(usd, abs=1e-3)


def test_a_run_over_the_end_of_a_month_is_parted_at_midnight_utc() -> None:
    begin = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)
    one = attempt(usd_per_h=1.0).model_copy(update={"launched_at": begin, "gone_at": begin + timedelta(hours=5)})
    assert ledger.by_month(job(one), begin) == pytest.approx({"2026-11": 2.0, "2026-12": 3.0})


def test_what_is_known_to_the_old_year_ends_with_it() -> None:
    assert months.next_month(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)


def test_work_done_twice_is_told_and_on_demand_is_not_charged_for_it() -> None:
    first = attempt(1, gone_s=4000, heartbeat=beat(90, at_s=4000, stages_s={"stage_model": 400}), end=AttemptEnd.DIED)
    second = attempt(2, launched_s=4000, gone_s=8000, heartbeat=beat(100, at_s=8000, first_step=60, stages_s={"stage_model": 600, "load": 200}))
    told = ledger.receipt(job(first, second), at(8000), 150)
    assert told.lost_s == pytest.approx(30 * 40), "30 steps of 40 s each"
    assert told.on_demand_usd == pytest.approx((8000 - 1200 - 800) / 3600 * ON_DEMAND, abs=1e-3), "nor for the second start"
    assert told.saved_usd == pytest.approx(told.on_demand_usd - told.cost_usd, abs=1e-3)
    assert told.saved_percent == pytest.approx(100 * told.saved_usd / told.on_demand_usd, abs=0.1)


def test_the_first_step_is_work_and_no_part_of_a_second_start() -> None:
    second = attempt(2, launched_s=4000, gone_s=8000, heartbeat=beat(100, at_s=8000, stages_s={"pull": 600, "first_step": 200}))
    assert ledger.second_start_s(second) == 600


def test_a_hand_over_that_lost_nothing_tells_nothing_lost() -> None:
    first = attempt(1, gone_s=4000, heartbeat=beat(90, at_s=4000))
    second = attempt(2, launched_s=4000, heartbeat=beat(95, at_s=5000, first_step=90))
    assert ledger.receipt(job(first, second), at(5000), 150).lost_s == 0


def test_volumes_are_estimated_beside_the_instances() -> None:
    told = ledger.receipt(job(attempt(gone_s=730 * 3600)), at(0), 100)
    assert told.volumes_usd == pytest.approx(100 * 0.08)


# --- prices that move -----------------------------------------------------------------------------------------------


def test_a_price_is_asked_for_each_hour_and_once_more_at_the_end() -> None:
    one = attempt()
    assert not ledger.price_is_due(one, at(3599))
    assert ledger.price_is_due(one, at(3600))
    priced = one.model_copy(update={"priced_at": at(3600)})
    assert not ledger.price_is_due(priced, at(7199))
    assert not ledger.price_is_due(priced.model_copy(update={"gone_at": at(4000)}), at(99999)), "a quarter of an hour at most goes by the last price"
    assert ledger.price_is_due(priced.model_copy(update={"gone_at": at(4500)}), at(4500))
    assert not ledger.price_is_due(attempt(market=Market.ON_DEMAND), at(99999))


def test_a_look_takes_in_the_changes_since_the_last_and_nothing_above_on_demand() -> None:
    story = Story(new_job())
    story.running()
    seen = (PriceChange(at=at(-600), usd_per_h=0.2), PriceChange(at=at(1800), usd_per_h=0.5), PriceChange(at=at(3000), usd_per_h=99.0))
    story.look(3700, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=20)}, prices={FIRST: seen})
    one = story.job.attempts[0]
    assert [(change.at, change.usd_per_h) for change in one.price_changes] == [(at(1800), 0.5), (at(3000), one.on_demand_usd_per_h)]
    assert one.priced_at == at(3700)
    story.look(3760, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=21)}, prices={FIRST: seen})
    assert story.job.attempts[0].price_changes == one.price_changes, "what was taken in is not taken in again"


def test_a_dearer_price_brings_the_cap_nearer() -> None:
    story = Story(new_job(limits={"budget_usd": 1.0}))
    story.running()
    dear = (PriceChange(at=at(60), usd_per_h=1.0),)
    story.look(3000, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=20)}, prices={FIRST: dear})
    assert story.job.ending is None
    story.look(3500, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=21)})
    assert story.job.ending is not None
    assert "budget_usd" in story.job.ending.reason


def test_prices_that_could_not_be_read_change_nothing() -> None:
    story = Story(new_job())
    story.running()
    before = story.job.attempts[0]
    story.look(3700, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=20)}, prices={SECOND: ()})
    assert (story.job.attempts[0].price_changes, story.job.attempts[0].priced_at) == (before.price_changes, before.priced_at)
