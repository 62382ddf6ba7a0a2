"""What a job without an instance asks for, and when one on on-demand is relieved by spot."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from control_plane.core import placement
from control_plane.core.actions import CallLaunch, Terminate, WriteStop
from control_plane.core.events import InterruptionWarned, LaunchRefused, StopWritten, TicketWritten
from control_plane.core.failures import RefusalKind
from control_plane.core.history import BREAKER_LONGEST, PRIOR_DELAY_S, history_of
from control_plane.core.records import AttemptEnd, LaunchPlan, Market
from control_plane.core.state import Job, JobState
from jobspec.heartbeat import Heartbeat, Phase, Saving
from tests.core.worlds import FIRST, OFFERS, SECOND, START, Story, at, heartbeat, new_job, of, planned

HOUR = 3600


def cheapest(deadline_h: float | None = None, **limits: Any) -> Job:
    deadline = {"deadline": (START + timedelta(hours=deadline_h)).isoformat()} if deadline_h else {}
    return new_job(compute={"market": "cheapest"}, limits={**deadline, **limits})


def refuse(story: Story, plan: LaunchPlan, seconds: float, kind: RefusalKind = RefusalKind.CAPACITY) -> tuple[Any, ...]:
    return story.tell(LaunchRefused(plan, kind, "none", plan.pools), seconds)


def trains(story: Story, instance_id: str, seconds: float, *, seq: int, step: int, of_steps: int = 1000, phase: Phase = Phase.TRAINING) -> dict[str, Heartbeat]:
    beat = heartbeat(story.job, instance_id, seq=seq, step=step, phase=phase)
    return {instance_id: beat.model_copy(update={"at": at(seconds), "total_steps": of_steps})}


def on_demand(job: Job) -> Story:
    """It runs on on-demand, one step a minute, for want of spot at its beginning."""
    story = Story(job)
    plan = planned(story.look(0))
    if plan.market is Market.SPOT:
        refuse(story, plan, 1)
        plan = planned(story.look(1))
    assert plan.market is Market.ON_DEMAND
    story.launch(2, FIRST)
    story.tell(TicketWritten(FIRST), 2)
    story.look(120, heartbeats=trains(story, FIRST, 120, seq=1, step=0))
    return story


def moving(deadline_h: float | None = None) -> Story:
    """Spot has been got beside it, and boots."""
    story = on_demand(cheapest(deadline_h))
    plan = planned(story.look(720, heartbeats=trains(story, FIRST, 720, seq=2, step=10)))
    assert plan.market is Market.SPOT
    story.launch(721, SECOND)
    story.tell(TicketWritten(SECOND), 721)
    return story


# --- a job without an instance ----------------------------------------------------------------------------------------


def test_with_a_deadline_and_time_to_spare_a_refused_job_waits_for_spot() -> None:
    story = Story(cheapest(60, max_runtime="10h"))
    plan = planned(story.look(0))
    assert plan.market is Market.SPOT
    refuse(story, plan, 1)
    assert not of(CallLaunch, story.look(1))
    assert story.job.state is JobState.WAITING
    assert planned(story.look(40)).market is Market.SPOT, "asked again once the wait is over, rested or not"


def test_a_wait_is_overruled_the_moment_that_on_demand_must_start() -> None:
    story = Story(cheapest(12, max_runtime="10h"))
    plan = planned(story.look(0))
    refuse(story, plan, 1, RefusalKind.QUOTA)
    asked = [(seconds, call.plan.market) for seconds in range(60, 2 * HOUR, 60) for call in of(CallLaunch, story.look(seconds))]
    assert asked
    first_s, market = asked[0]
    assert market is Market.ON_DEMAND
    assert first_s <= 2 * HOUR - PRIOR_DELAY_S


def test_work_that_nobody_has_measured_begins_on_on_demand_where_it_might_fill_the_time() -> None:
    assert planned(Story(cheapest(12)).look(0)).market is Market.ON_DEMAND
    assert planned(Story(cheapest(12, max_runtime="2h")).look(0)).market is Market.SPOT


def test_without_a_deadline_a_refused_job_takes_on_demand_at_once() -> None:
    story = Story(cheapest())
    refuse(story, planned(story.look(0)), 1)
    assert planned(story.look(1)).market is Market.ON_DEMAND


def test_a_pool_that_takes_back_one_instance_after_the_other_rests_and_is_asked_again_later() -> None:
    story = Story(new_job())
    for number in range(2):
        story.look(number * 600)
        story.launch(number * 600 + 1, f"i-{number:017x}")
        story.tell(InterruptionWarned(f"i-{number:017x}"), number * 600 + 120)
        story.gone(f"i-{number:017x}", "Server.SpotInstanceTermination")
    assert [pool.zone for pool in planned(story.look(740)).pools] == ["us-east-1b"]
    tired = history_of(story.job, at(740)).tired[Market.SPOT]
    assert tired == {("g5.xlarge", "us-east-1a")}
    assert not history_of(story.job, at(720 + 301)).tired[Market.SPOT]


def test_a_pool_that_took_back_a_hundred_instances_rests_no_longer_than_the_longest() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.launch(1, FIRST)
    story.tell(InterruptionWarned(FIRST), 120)
    (lost,) = story.job.attempts
    job = story.job.model_copy(update={"attempts": tuple(lost.model_copy(update={"warned_at": at(20 * number)}) for number in range(100))})
    key = (plan.pools[0].instance_type, plan.pools[0].zone)
    assert key in history_of(job, at(20 * 99) + BREAKER_LONGEST - timedelta(seconds=1)).tired[Market.SPOT]
    assert key not in history_of(job, at(20 * 99) + BREAKER_LONGEST).tired[Market.SPOT]


def test_a_delay_is_learnt_from_the_jobs_own_starts_and_work_from_its_own_steps() -> None:
    story = on_demand(cheapest())
    story.look(720, heartbeats=trains(story, FIRST, 720, seq=2, step=10), offers=None)
    history = history_of(story.job, at(720))
    assert history.delay_s == 118
    assert history.progress.measured
    assert history.progress.work_left_s == 990 * 60 * 1.05 + 180


def test_what_a_silent_loss_costs_is_the_time_between_saves_as_measured_or_as_the_manifest_has_it() -> None:
    assert history_of(cheapest(), at(0)).save_interval_s == 600
    assert history_of(new_job(checkpoint={"interval": "90s"}), at(0)).save_interval_s == 90
    story = on_demand(cheapest())
    beats = trains(story, FIRST, 720, seq=2, step=10)
    saving = Saving(stall_s=0.5, write_s=2, upload_s=3, interval_s=150)
    story.look(720, heartbeats={FIRST: beats[FIRST].model_copy(update={"saving": saving})}, offers=None)
    history = history_of(story.job, at(720))
    assert history.save_interval_s == 150
    assert placement.situation_of(story.job, OFFERS, (), history, at(720)).blind_s == placement.UNSEEN_S + 150


def test_a_placement_is_a_function_of_its_arguments_alone() -> None:
    job = cheapest(60, max_runtime="10h")
    plans = [placement.place(job, OFFERS, history_of(job, at(5)), at(5)) for _ in range(2)]
    assert plans[0] == plans[1]


# --- prices in force --------------------------------------------------------------------------------------------------


def at_prices(a_usd: float, b_usd: float) -> Any:
    """The offers with both zones' spot prices; g5.xlarge is $1.006 on-demand and typically $0.489 on spot."""
    return replace(OFFERS, spot_usd_per_h={("g5.xlarge", "us-east-1a"): a_usd, ("g5.xlarge", "us-east-1b"): b_usd})


def first_call(job: Job, offers: Any) -> LaunchPlan:
    return planned(Story(job).look(0, offers=offers))


def test_a_pool_that_saves_little_is_not_asked_beside_one_that_saves_much() -> None:
    assert [pool.zone for pool in first_call(cheapest(), at_prices(0.90, 0.30)).pools] == ["us-east-1b"]
    assert [pool.zone for pool in first_call(cheapest(), at_prices(0.40, 0.30)).pools] == ["us-east-1a", "us-east-1b"]


def test_a_dearer_pool_is_asked_once_the_cheapest_has_refused() -> None:
    story, offers = Story(cheapest(60, max_runtime="10h")), at_prices(0.70, 0.30)
    plan = planned(story.look(0, offers=offers))
    refuse(story, plan, 1)
    (call,) = of(CallLaunch, story.look(40, offers=offers))
    assert [pool.zone for pool in call.plan.pools] == ["us-east-1a"]


def test_on_demand_is_taken_where_every_spot_price_in_force_is_above_it() -> None:
    assert first_call(cheapest(), OFFERS).market is Market.SPOT, "by typical prices spot pays"
    assert first_call(cheapest(), at_prices(1.2, 1.01)).market is Market.ON_DEMAND


def test_a_market_of_spot_asks_every_pool_whatever_it_costs() -> None:
    assert len(first_call(new_job(), at_prices(0.95, 0.2)).pools) == 2


def test_on_demand_is_not_left_for_spot_that_has_become_dear() -> None:
    for usd_per_h, asks in ((0.3, True), (0.95, False)):
        story = on_demand(cheapest())
        beats = trains(story, FIRST, 720, seq=2, step=10)
        assert bool(of(CallLaunch, story.look(720, heartbeats=beats, offers=at_prices(usd_per_h, usd_per_h)))) is asks


def test_the_reason_of_a_plan_says_by_which_prices_it_was_chosen() -> None:
    story = Story(cheapest())
    story.look(0, offers=at_prices(0.40, 0.30))
    assert story.job.reason == "attempt 1: spot, 2 pool(s), from $0.300 an hour"
    story = Story(cheapest())
    story.look(0)
    assert story.job.reason.endswith("typically from $0.489 an hour in us-east-1: spot prices could not be read")


# --- a planned hand-over ----------------------------------------------------------------------------------------------


def test_spot_that_pays_is_asked_for_beside_the_instance_that_works_on() -> None:
    story = moving()
    assert not of(WriteStop, story.look(780, heartbeats=trains(story, FIRST, 780, seq=3, step=11)))
    assert [attempt.serves for attempt in story.job.attempts] == [True, True]
    assert story.job.attempts[0].relieved_at is None


def test_no_spot_is_asked_for_before_the_work_is_measured_or_for_too_little_of_it() -> None:
    story = on_demand(cheapest())
    assert not of(CallLaunch, story.look(720, heartbeats=trains(story, FIRST, 720, seq=2, step=0)))
    assert not of(CallLaunch, story.look(780, heartbeats=trains(story, FIRST, 780, seq=3, step=11, of_steps=20)))


def test_a_refusal_beside_the_instance_that_works_changes_nothing_but_when_to_ask_again() -> None:
    story = on_demand(cheapest())
    refuse(story, planned(story.look(720, heartbeats=trains(story, FIRST, 720, seq=2, step=10))), 721, RefusalKind.THROTTLE)
    assert (story.job.state, story.job.wait, story.job.plan) == (JobState.RUNNING, None, None)
    assert not of(CallLaunch, story.look(780, heartbeats=trains(story, FIRST, 780, seq=3, step=11)))
    assert of(CallLaunch, story.look(721 + 301, heartbeats=trains(story, FIRST, 1022, seq=4, step=15)))


def test_the_instance_that_works_hands_over_once_its_replacement_stands_ready() -> None:
    story = moving()
    beats = trains(story, FIRST, 840, seq=3, step=12) | trains(story, SECOND, 840, seq=1, step=0, phase=Phase.WAITING)
    (order,) = of(WriteStop, story.look(840, heartbeats=beats))
    assert (order.instance_id, order.hand_over) == (FIRST, True)
    story.tell(StopWritten(FIRST), 840)
    assert not of(Terminate, story.look(870, heartbeats=trains(story, FIRST, 870, seq=4, step=13, phase=Phase.SAVING)))
    (ended,) = of(Terminate, story.look(900, heartbeats=trains(story, FIRST, 900, seq=5, step=13, phase=Phase.HANDED_OVER)))
    assert ended.instance_id == FIRST
    story.gone(FIRST)
    story.look(960, heartbeats=trains(story, SECOND, 960, seq=2, step=13))
    assert story.job.attempts[0].end is AttemptEnd.RELIEVED
    assert story.job.state is JobState.RUNNING


def test_an_instance_that_does_not_hand_over_in_its_time_is_ended() -> None:
    story = moving()
    beats = trains(story, FIRST, 840, seq=3, step=12) | trains(story, SECOND, 840, seq=1, step=0, phase=Phase.WAITING)
    story.look(840, heartbeats=beats)
    story.tell(StopWritten(FIRST), 840)
    late = trains(story, FIRST, 1139, seq=4, step=15) | trains(story, SECOND, 1139, seq=2, step=0, phase=Phase.WAITING)
    assert not of(Terminate, story.look(1139, heartbeats=late))
    assert [end.instance_id for end in of(Terminate, story.look(1140, heartbeats=late))] == [FIRST]


def test_a_replacement_that_is_lost_before_it_stands_ready_leaves_the_instance_that_works_alone() -> None:
    story = moving()
    story.gone(SECOND, "Server.SpotInstanceTermination")
    actions = story.look(840, heartbeats=trains(story, FIRST, 840, seq=3, step=12))
    assert not of(WriteStop, actions)
    assert not of(Terminate, actions)
    assert story.job.attempts[0].serves
    assert story.job.attempts[1].end is AttemptEnd.INTERRUPTED


def test_a_hand_over_is_of_bounded_length_even_where_the_replacement_never_stands_ready() -> None:
    story = moving()
    staging = trains(story, SECOND, 1900, seq=1, step=0, phase=Phase.STAGING)
    assert not of(WriteStop, story.look(1920, heartbeats=trains(story, FIRST, 1920, seq=3, step=30) | staging))
    (order,) = of(WriteStop, story.look(1921, heartbeats=trains(story, FIRST, 1921, seq=4, step=30) | staging))
    assert order.instance_id == FIRST


def test_no_return_is_begun_without_time_to_start_once_more() -> None:
    """17.4 hours of work are left: 17.55 hours are too few for a loss that goes unseen, 17.8 are not."""
    for deadline_h, asks in ((17.75, False), (18, True)):
        story = on_demand(cheapest(deadline_h))
        assert bool(of(CallLaunch, story.look(720, heartbeats=trains(story, FIRST, 720, seq=2, step=10)))) is asks
