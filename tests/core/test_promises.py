"""Two promises of docs/placement.md, in random worlds: never late where on-demand from the start would not have been; never over the cap."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from control_plane.core import ledger
from control_plane.core.history import FINISH_S, POOL_REST, PRIOR_DELAY_S, RATE_MARGIN
from control_plane.core.records import Market
from control_plane.core.state import JobState
from tests.core.random_worlds import HOME, PEER, TICK_S, RandomWorld
from tests.core.worlds import START, new_job

HOUR = 3600


def spells(draw: st.DrawFn, lengths: tuple[int, ...] = (1, 2, 5, 20, 60, 300)) -> list[bool]:
    """Spot comes and goes, in spells of very different lengths."""
    parts = draw(st.lists(st.tuples(st.booleans(), st.sampled_from(lengths)), min_size=1, max_size=12))
    return [has for has, ticks in parts for _ in range(ticks)]


@st.composite
def pressed(draw: st.DrawFn) -> tuple[RandomWorld, float]:
    """A job with a deadline that on-demand from the start would keep, be it ever so tight."""
    total, step_s = draw(st.integers(20, 200)), draw(st.sampled_from((30.0, 60.0, 120.0)))
    boot_s = draw(st.sampled_from((60, 300, 540)))
    needs_s = PRIOR_DELAY_S + total * step_s * RATE_MARGIN + FINISH_S + 3 * TICK_S
    slack_s = draw(st.sampled_from((0, 600, 1800, 2 * HOUR, 6 * HOUR)))
    deadline = START + timedelta(seconds=needs_s + slack_s)
    limits = {"deadline": deadline.isoformat(), "max_runtime": "20h", "max_attempts": 100, "budget_usd": 10_000}
    job = new_job(compute={"market": "cheapest"}, limits=limits, checkpoint={"interval": draw(st.sampled_from(("5m", "10m")))})
    world = RandomWorld(job, spells(draw), boot_s, step_s, total, save_every=max(1, int(240 / step_s)))
    return world, needs_s + slack_s


@settings(max_examples=60, deadline=None)
@given(pressed())
def test_no_job_is_late_that_on_demand_from_the_start_would_have_finished(found: tuple[RandomWorld, float]) -> None:
    world, time_s = found
    job = world.run(int(time_s / TICK_S) + 10)
    assert job.state is JobState.SUCCEEDED, f"{job.state}: {job.reason}; {[(a.market.value, str(a.end)) for a in job.attempts]}"


@st.composite
def hard(draw: st.DrawFn) -> tuple[RandomWorld, float, float]:
    """Starts of up to 40 minutes, each longer than the one before; steps that grow slower; heartbeats that are lost, and instances that fall silent.

    The world, the time to its deadline, and by how much the job may be late: what its first start takes beyond half an hour, for nobody
    could know, and what starts grow by while one is lost and the next is made."""
    total, step_s, slows = draw(st.integers(20, 200)), draw(st.sampled_from((30.0, 60.0, 120.0))), draw(st.sampled_from((0.0, 0.05, 0.1)))
    boot_s, growth_s = draw(st.sampled_from((300, 1500, 2400))), draw(st.sampled_from((0.0, 60.0, 300.0)))
    save_every = max(1, int(240 / (step_s * (1 + slows))))
    # The worst for a start is to be lost just before, or after, its first step.
    spot = spells(draw, (1, 5, 20, 60, 300, *(int(boot_s / TICK_S) + more for more in (-1, 1, 8))))
    world = RandomWorld(
        new_job(), spot, boot_s, step_s, total, save_every, boot_growth_s=growth_s, slows=slows, silent=draw(st.booleans()), deaf=lost_words(draw)
    )
    needs_s = max(PRIOR_DELAY_S, boot_s) + world.train_s() * RATE_MARGIN + FINISH_S + 3 * TICK_S
    time_s = needs_s + draw(st.sampled_from((0, 600, 1800, 2 * HOUR, 6 * HOUR)))
    # A true max_runtime, with one lost start in it or more, lets a job begin on spot; with another it is measured on on-demand first.
    max_runtime_s = needs_s + draw(st.sampled_from((boot_s + 600, 3 * HOUR, 40 * HOUR)))
    limits = {"deadline": (START + timedelta(seconds=time_s)).isoformat(), "max_runtime": f"{int(max_runtime_s)}s"}
    limits |= {"max_attempts": 100, "budget_usd": 10_000}
    job = new_job(compute={"market": "cheapest"}, limits=limits, checkpoint={"interval": draw(st.sampled_from(("5m", "10m")))})
    return replace(world, job=job), time_s, max(0.0, boot_s - HOUR / 2) + 2 * growth_s


def lost_words(draw: st.DrawFn) -> tuple[bool, ...]:
    """Heartbeats that do not arrive: a few in a row, and fewer than make an instance stale."""
    parts = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 20)), max_size=5))
    return tuple(is_lost for lost, heard in parts for is_lost in [True] * lost + [False] * heard) or (False,)


@settings(max_examples=80, deadline=None)
@given(hard())
def test_with_slow_starts_and_lost_words_no_job_is_later_than_what_it_could_not_know(found: tuple[RandomWorld, float, float]) -> None:
    world, time_s, allowed_s = found
    job = world.run(int(time_s / TICK_S) + 10)
    assume("max_runtime" not in job.reason)
    # Three in a row that fell silent before a step: given up, as it should be.
    assume("made no progress" not in job.reason)
    assert job.state in (JobState.SUCCEEDED, JobState.STOPPED_DEADLINE), f"{job.state}: {job.reason}"
    assert world.late_s(time_s) <= allowed_s, f"{job.reason}; {[(a.market.value, str(a.end)) for a in job.attempts]}"


@st.composite
def uneven(draw: st.DrawFn) -> tuple[RandomWorld, float]:
    """One instance in three is a third slower than the others; each trains for long enough to be measured."""
    total, step_s = draw(st.integers(50, 200)), draw(st.sampled_from((30.0, 60.0)))
    spot, save_every = spells(draw, (20, 60, 300)), max(1, int(180 / step_s))
    world = RandomWorld(new_job(), spot, 300, step_s, total, save_every, paces=(1.33, 1.0, 1.0))
    time_s = PRIOR_DELAY_S + world.train_s() * RATE_MARGIN + FINISH_S + 3 * TICK_S + draw(st.sampled_from((600, 1800, HOUR, 2 * HOUR, 6 * HOUR)))
    limits = {"deadline": (START + timedelta(seconds=time_s)).isoformat(), "max_runtime": "40h", "max_attempts": 100, "budget_usd": 10_000}
    return replace(world, job=new_job(compute={"market": "cheapest"}, limits=limits, checkpoint={"interval": "5m"})), time_s


@settings(max_examples=60, deadline=None)
@given(uneven())
def test_the_slowest_of_the_newest_instances_is_believed_and_no_job_is_late_for_the_next_one_like_it(found: tuple[RandomWorld, float]) -> None:
    world, time_s = found
    job = world.run(int(time_s / TICK_S) + 10)
    assert job.state is JobState.SUCCEEDED, f"{job.state}: {job.reason}; {[(a.market.value, str(a.end)) for a in job.attempts]}"


@settings(max_examples=60, deadline=None)
@given(pressed(), st.integers(0, 240), st.sampled_from((10, 60, 240)))
def test_while_ec2_is_short_of_on_demand_too_a_job_is_late_by_no_more_than_the_shortage(found: tuple[RandomWorld, float], start: int, ticks: int) -> None:
    """And by the rest of a pool that has just refused: so long after the shortage's end on-demand may be asked for again."""
    world, time_s = found
    world = replace(world, shortage=range(start, start + ticks))
    job = world.run(int(time_s / TICK_S) + 10)
    assert job.state in (JobState.SUCCEEDED, JobState.STOPPED_DEADLINE), f"{job.state}: {job.reason}"
    assert world.late_s(time_s) <= ticks * TICK_S + POOL_REST.total_seconds() + TICK_S, [(a.market.value, str(a.end)) for a in job.attempts]


@st.composite
def capped(draw: st.DrawFn) -> RandomWorld:
    total, step_s = draw(st.integers(50, 400)), draw(st.sampled_from((30.0, 120.0)))
    limits = {"budget_usd": draw(st.sampled_from((0.1, 0.3, 1.0, 4.0))), "max_runtime": "20h", "max_attempts": 100}
    if draw(st.booleans()):
        limits["deadline"] = (START + timedelta(hours=draw(st.integers(1, 20)))).isoformat()
    job = new_job(compute={"market": draw(st.sampled_from(("spot", "cheapest", "on-demand")))}, limits=limits)
    return RandomWorld(job, spells(draw), draw(st.sampled_from((60, 540))), step_s, total, save_every=4)


@settings(max_examples=40, deadline=None)
@given(capped())
def test_no_job_costs_more_than_its_cap(world: RandomWorld) -> None:
    """Watched by the tick against what the next tick and a last save may cost."""
    job = world.run(22 * 60)
    assert job.manifest is not None
    assert world.spent_usd <= job.manifest.limits.budget_usd


@st.composite
def with_two_regions(draw: st.DrawFn) -> RandomWorld:
    """Spot comes and goes in each of them, at prices of its own."""
    total, step_s = draw(st.integers(60, 300)), draw(st.sampled_from((60.0, 120.0)))
    compute = {
        "market": draw(st.sampled_from(("spot", "spot", "cheapest", "on-demand"))),
        "regions": draw(st.sampled_from(([HOME, PEER], [HOME, PEER], [PEER]))),
    }
    limits: dict[str, object] = {"max_runtime": "20h", "max_attempts": 100, "budget_usd": draw(st.sampled_from((3.0, 1000.0)))}
    if draw(st.booleans()):
        limits["deadline"] = (START + timedelta(hours=draw(st.integers(1, 20)))).isoformat()
    prices = [draw(st.sampled_from((0.1, 0.2, 0.5))) for _ in range(2)]
    moved = {"read_gib": draw(st.sampled_from((0.0, 3.0, 20.0))), "save_gib": draw(st.sampled_from((0.001, 0.02, 0.5)))}
    job, boot_s = new_job(compute=compute, limits=limits), draw(st.sampled_from((60, 540)))
    home, abroad = (spells(draw, (5, 20, 40, 90)) for _ in range(2))
    return RandomWorld(job, home, boot_s, step_s, total, 4, prices[0], abroad=abroad, abroad_usd_per_h=prices[1], **moved)


@settings(max_examples=60, deadline=None)
@given(with_two_regions())
def test_the_receipt_equals_the_worlds_bill_to_the_cent_with_what_crossed_regions(world: RandomWorld) -> None:
    job = world.run(24 * 60)
    # What still lives then has no end on the bill.
    receipt = ledger.receipt(job, job.updated_at, 150)
    if not world.live:
        assert receipt.cost_usd == pytest.approx(world.hours_usd + world.crossed_usd, abs=0.0001)
        assert sum(ledger.by_month(job, job.updated_at).values()) == pytest.approx(world.hours_usd + world.crossed_usd, abs=1e-6)
    assert receipt.egress_usd == pytest.approx(world.crossed_usd, abs=0.0001)


def test_a_job_pressed_for_time_falls_back_to_on_demand_and_is_in_time() -> None:
    limits = {"deadline": (START + timedelta(hours=3)).isoformat(), "max_runtime": "2h"}
    world = RandomWorld(new_job(compute={"market": "cheapest"}, limits=limits), [True] * 20 + [False] * 500, 60, 30.0, 200, save_every=10)
    job = world.run(180)
    assert job.state is JobState.SUCCEEDED
    assert [attempt.market for attempt in job.attempts] == [Market.SPOT, Market.ON_DEMAND]


def test_a_job_on_on_demand_moves_to_spot_that_pays_and_works_on_until_it_is_there() -> None:
    limits = {"deadline": (START + timedelta(hours=30)).isoformat(), "max_runtime": "20h"}
    world = RandomWorld(new_job(compute={"market": "cheapest"}, limits=limits), [False] * 700 + [True] * 3000, 60, 60.0, 900, save_every=10)
    job = world.run(30 * 60)
    assert job.state is JobState.SUCCEEDED
    assert [attempt.market for attempt in job.attempts][-2:] == [Market.ON_DEMAND, Market.SPOT]
    on_demand = job.attempts[-2]
    assert (on_demand.end, on_demand.ended_by) == ("relieved", "dropforge")
    assert job.attempts[-1].heartbeat is not None
    assert on_demand.heartbeat is not None
    assert job.attempts[-1].heartbeat.first_step == on_demand.heartbeat.step, "nothing is done twice"
