"""The life of a job, one question at a time. Names are the answers."""

from datetime import timedelta
from typing import Any

import pytest

from control_plane.core.actions import CallLaunch, LookAgain, Publish, Terminate, WriteStatus, WriteStop, WriteTicket
from control_plane.core.events import (
    BudgetAlerted,
    InstanceChanged,
    InstanceSight,
    InterruptionWarned,
    LastStatusWritten,
    LaunchedInstance,
    LaunchRefused,
    LaunchSucceeded,
    Looked,
    ManifestDeleted,
    MarkerSight,
    NoticePublished,
    RebalanceRecommended,
    StopWritten,
    TerminationAnswered,
    TicketWritten,
)
from control_plane.core.failures import RefusalKind
from control_plane.core.records import AttemptEnd, Market
from control_plane.core.state import ENDS, JobState, NoticeKind, WaitKind
from jobspec.heartbeat import Notice, Phase
from jobspec.marker import FailureCode, Outcome
from tests.core.worlds import FIRST, OFFERS, SECOND, START, THIRD, Story, at, heartbeat, marker, new_job, of, planned


def test_an_accepted_job_plans_before_it_calls() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    assert story.job.state is JobState.PLANNED
    assert story.job.plan == plan, "the plan is in what is saved, before its call is made"
    assert {pool.zone for pool in plan.pools} == set(OFFERS.subnets)
    assert plan.template_version == "7"


def test_a_call_whose_answer_was_lost_is_repeated_unchanged() -> None:
    story = Story(new_job())
    first = planned(story.look(0))
    assert planned(story.look(60)) == first
    assert planned(story.look(600)) == first


def test_an_instance_of_a_lost_answer_is_found_by_its_token_and_no_second_is_asked_for() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.states[FIRST] = ("pending", plan, "")
    actions = story.look(60)
    assert story.job.attempts[0].instance_id == FIRST
    assert story.job.state is JobState.LAUNCHED
    assert not of(CallLaunch, actions)
    assert of(WriteTicket, actions)


def test_the_ticket_follows_the_record_and_is_owed_until_written() -> None:
    story = Story(new_job())
    story.look(0)
    assert of(WriteTicket, story.launch(1, FIRST)) == [WriteTicket(FIRST)]
    assert of(WriteTicket, story.look(60)) == [WriteTicket(FIRST)]
    story.tell(TicketWritten(FIRST), 61)
    assert not of(WriteTicket, story.look(120))


def test_the_same_answer_twice_makes_one_attempt() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.launch(1, FIRST)
    again = story.tell(LaunchSucceeded(plan, (LaunchedInstance(FIRST, plan.pools[0], 0.4),)), 2)
    assert len(story.job.attempts) == 1
    assert not of(Terminate, again)


def test_an_instance_too_many_in_one_answer_is_ended_at_once() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    both = tuple(LaunchedInstance(i, plan.pools[0], 0.4) for i in (FIRST, SECOND))
    actions = story.tell(LaunchSucceeded(plan, both), 1)
    assert [a.instance_id for a in story.job.attempts] == [FIRST]
    assert [t.instance_id for t in of(Terminate, actions)] == [SECOND]


def test_the_first_heartbeat_makes_it_running() -> None:
    story = Story(new_job())
    story.running()
    assert story.job.state is JobState.RUNNING


def test_a_warning_orders_the_replacement_and_leaves_the_instance_to_ec2() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    actions = story.look(100)
    assert planned(actions).attempt == 2
    assert not of(Terminate, actions)
    story.launch(101, SECOND)
    assert story.job.state is JobState.LAUNCHED
    assert not of(Terminate, story.look(160)), "within its notice the old instance saves"


def test_a_warning_that_only_the_agent_saw_does_the_same() -> None:
    story = Story(new_job())
    story.running()
    beat = heartbeat(story.job, FIRST, seq=2, step=12, notice=Notice(kind="interruption", at=START))
    assert planned(story.look(100, heartbeats={FIRST: beat})).attempt == 2


def test_a_warning_twice_orders_one_replacement() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    first = planned(story.look(100))
    story.tell(InterruptionWarned(FIRST), 101)
    assert planned(story.look(101)) == first


def test_a_late_warning_for_an_attempt_that_is_over_changes_nothing() -> None:
    story = Story(new_job())
    story.running()
    story.gone(FIRST)
    story.look(100)
    before = story.job
    story.tell(InterruptionWarned(FIRST), 900)
    assert story.job == before


def test_a_foreign_instances_warning_changes_nothing() -> None:
    story = Story(new_job())
    story.running()
    before = story.job
    for event in (InterruptionWarned(THIRD), RebalanceRecommended(THIRD), InstanceChanged(THIRD, "terminated"), TerminationAnswered(THIRD, "terminated")):
        assert story.tell(event, 100) == ()
    assert story.job == before


def test_a_marker_that_comes_with_the_warning_wins() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    actions = story.look(100, markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED
    assert not of(CallLaunch, actions)


def test_a_marker_of_the_warned_attempt_ends_its_replacement() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    story.look(100)
    story.launch(101, SECOND)
    actions = story.look(130, markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED
    assert [t.instance_id for t in of(Terminate, actions)] == [SECOND]


def test_an_interrupted_instance_is_concluded_as_ec2s_doing() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    story.look(100)
    story.launch(101, SECOND)
    story.gone(FIRST, "Server.SpotInstanceTermination")
    story.look(230)
    first = story.job.attempts[0]
    assert (first.end, first.ended_by) == (AttemptEnd.INTERRUPTED, "ec2")


def test_a_warned_instance_that_ec2_forgets_is_ended_by_us() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 100)
    story.look(100)
    assert not of(Terminate, story.look(100 + 120 + 170))
    assert [t.instance_id for t in of(Terminate, story.look(100 + 120 + 181))] == [FIRST]


def test_a_silent_death_is_relaunched_after_its_marker_was_looked_for() -> None:
    story = Story(new_job())
    story.running()
    story.gone(FIRST)
    story.tell(InstanceChanged(FIRST, "terminated"), 100)
    unread = story.look(100, markers={})
    assert story.job.attempts[0].end is AttemptEnd.DIED
    assert planned(unread).attempt == 2


def test_a_gone_instance_whose_marker_could_not_be_read_is_not_concluded() -> None:
    story = Story(new_job())
    story.running()
    story.gone(FIRST)
    story.tell(Looked(instances=(), markers={}, manifest_present=True, offers=OFFERS), 100)
    assert story.job.attempts[0].is_open
    story.tell(InstanceChanged(FIRST, "terminated"), 101)
    actions = story.tell(Looked(instances=(), markers={}, manifest_present=True, offers=OFFERS), 102)
    assert story.job.attempts[0].is_open
    assert not of(CallLaunch, actions)
    story.look(103, markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED


def test_one_empty_describe_proves_nothing() -> None:
    story = Story(new_job())
    story.running()
    del story.states[FIRST]
    assert not of(CallLaunch, story.look(90))
    assert not of(CallLaunch, story.look(150))
    story.look(400)
    assert story.job.attempts[0].gone_at is not None
    assert story.job.plan is not None


def test_an_instance_that_shows_up_again_was_never_gone() -> None:
    story = Story(new_job())
    story.running()
    hidden = story.states.pop(FIRST)
    story.look(90)
    story.states[FIRST] = hidden
    story.look(150)
    del story.states[FIRST]
    assert not of(CallLaunch, story.look(420))


def test_a_failed_describe_decides_nothing() -> None:
    story = Story(new_job())
    story.running()
    for seconds in (100, 200, 290):
        actions = story.look(seconds, instances=None, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=seconds, step=20)})
        assert not of(CallLaunch, actions)
        assert not of(Terminate, actions)
    assert story.job.state is JobState.RUNNING


def test_a_stale_heartbeat_ends_the_instance_and_only_then_relaunches() -> None:
    story = Story(new_job())
    story.running(30)
    assert not of(Terminate, story.look(320))
    actions = story.look(331)
    assert [t.instance_id for t in of(Terminate, actions)] == [FIRST]
    assert not of(CallLaunch, actions), "at most one live instance"
    story.gone(FIRST)
    assert planned(story.look(400)).attempt == 2


def test_an_instance_that_never_speaks_is_given_up_after_its_boot_time() -> None:
    story = Story(new_job())
    story.look(0)
    story.launch(1, FIRST)
    assert not of(Terminate, story.look(1190))
    assert of(Terminate, story.look(1202))


def test_a_stopped_instance_is_terminated() -> None:
    story = Story(new_job())
    story.running()
    story.states[FIRST] = ("stopped", *story.states[FIRST][1:])
    assert of(Terminate, story.look(60))


def test_a_stopped_instance_is_terminated_also_under_notice_for_it_saves_nothing() -> None:
    story = Story(new_job())
    story.running()
    story.tell(InterruptionWarned(FIRST), 40)
    story.states[FIRST] = ("stopped", *story.states[FIRST][1:])
    assert [action.instance_id for action in of(Terminate, story.look(60))] == [FIRST]


def test_no_capacity_backs_off_and_passes_over_the_pools_that_refused() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "InsufficientInstanceCapacity", plan.pools[:1]), 1)
    assert story.job.state is JobState.WAITING
    assert not of(CallLaunch, story.look(20))
    second = planned(story.look(40))
    assert second.pools == plan.pools[1:]
    assert second.client_token != plan.client_token


def test_waits_grow_and_have_a_bound() -> None:
    story = Story(new_job())
    seconds, waits = 0.0, []
    for _ in range(8):
        plan = planned(story.look(seconds))
        story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), seconds)
        assert story.job.wait is not None
        waits.append((story.job.wait.until - at(seconds)).total_seconds())
        seconds += waits[-1]
    assert waits[:4] == [30, 60, 120, 240]
    assert max(waits) == 600


def test_cheapest_falls_back_to_on_demand_when_no_spot_pool_is_left() -> None:
    story = Story(new_job(compute={"instance_types": ["g5.xlarge"], "market": "cheapest"}))
    plan = planned(story.look(0))
    assert of(LookAgain, story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), 1))
    assert planned(story.look(1)).market is Market.ON_DEMAND


def test_spot_never_becomes_on_demand_by_itself() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), 1)
    assert planned(story.look(40)).market is Market.SPOT


def test_a_quota_is_told_once_and_asked_again_after_half_an_hour() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    actions = story.tell(LaunchRefused(plan, RefusalKind.QUOTA, "MaxSpotInstanceCountExceeded"), 1)
    assert len(of(Publish, actions)) == 1
    assert not of(CallLaunch, story.look(1700))
    assert planned(story.look(1802))
    assert [n.kind for n in story.job.notices] == [NoticeKind.QUOTA]


def test_a_configuration_error_ends_the_job_with_its_message() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.CONFIGURATION, "InvalidAMIID.NotFound: ami-1"), 1)
    assert story.job.state is JobState.FAILED
    assert "ami-1" in story.job.reason


def test_a_refusal_of_another_plan_is_old_news() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.THROTTLE, "wait", ()), 1)
    story.look(70)
    before = story.job
    story.tell(LaunchRefused(plan, RefusalKind.CONFIGURATION, "late answer", ()), 71)
    assert story.job == before


def test_max_wait_ends_a_job_that_never_gets_an_instance() -> None:
    story = Story(new_job(limits={"max_wait": "1h"}))
    seconds = 0.0
    while not story.job.ended and seconds < 2 * 3600:
        calls = of(CallLaunch, story.look(seconds))
        if calls:
            story.tell(LaunchRefused(calls[0].plan, RefusalKind.CAPACITY, "none", calls[0].plan.pools), seconds)
        seconds += 60
    assert story.job.state is JobState.FAILED
    assert 3600 <= seconds <= 4300


def _refuse_every_launch(story: Story, start: float, until: float, **facts: Any) -> float:
    """Looks each minute, and no pool has capacity. The second at which the job ended, or ``until``."""
    seconds = start
    while not story.job.ended and seconds < until:
        calls = of(CallLaunch, story.look(seconds, **facts))
        if calls:
            story.tell(LaunchRefused(calls[0].plan, RefusalKind.CAPACITY, "none", calls[0].plan.pools), seconds)
        seconds += 60
    return seconds


@pytest.mark.parametrize("queue", [{"turn": "others wait longer"}, {"hold": "paused"}])
def test_max_wait_does_not_count_the_time_in_the_queue_or_under_a_hold(queue: dict[str, str]) -> None:
    story = Story(new_job(limits={"max_wait": "1h"}))
    assert _refuse_every_launch(story, 0, 3 * 3600, **queue) == 3 * 3600
    assert 3600 <= _refuse_every_launch(story, 3 * 3600, 6 * 3600) - 3 * 3600 <= 4300
    assert story.job.reason.startswith("no instance within max_wait: ")


def test_max_wait_counts_what_was_waited_for_capacity_before_and_after_the_queue() -> None:
    story = Story(new_job(limits={"max_wait": "1h"}))
    _refuse_every_launch(story, 0, 2400)
    _refuse_every_launch(story, 2400, 9000, turn="others wait longer")
    assert not story.job.ended
    ended = _refuse_every_launch(story, 9000, 20_000)
    assert story.job.state is JobState.FAILED
    # Up to ten minutes of back-off were under way when the queue began, and again at the end.
    assert 3600 - 2400 - 660 <= ended - 9000 <= 3600 - 2400 + 660


def test_a_held_project_waits_and_starts_when_the_hold_is_lifted() -> None:
    story = Story(new_job())
    story.look(0, hold="the month's money is spent")
    assert story.job.wait is not None
    assert story.job.wait.kind is WaitKind.HELD
    assert story.job.state is JobState.WAITING
    assert planned(story.look(10))


def test_a_deleted_manifest_cancels_and_ends_the_instance() -> None:
    story = Story(new_job())
    story.running()
    story.tell(ManifestDeleted(), 100)
    actions = story.look(100)
    assert story.job.state is JobState.CANCELLED
    assert of(Terminate, actions)
    assert not of(Publish, actions), "the e-mail waits for the termination to be accepted"
    assert of(Publish, story.tell(TerminationAnswered(FIRST, "shutting-down"), 101))


def test_a_deletion_whose_event_was_lost_is_found_by_the_look() -> None:
    story = Story(new_job())
    story.running()
    story.look(100, manifest_present=False)
    assert story.job.state is JobState.CANCELLED


def test_an_instance_that_answers_after_the_end_is_ended() -> None:
    story = Story(new_job())
    plan = planned(story.look(0))
    story.tell(ManifestDeleted(), 1)
    story.look(1)
    assert story.job.state is JobState.CANCELLED
    story.states[FIRST] = ("pending", plan, "")
    assert [t.instance_id for t in of(Terminate, story.look(60))] == [FIRST]


@pytest.mark.parametrize(
    "code",
    sorted(
        set(FailureCode)
        - {
            FailureCode.TRAINER_KILLED,
            FailureCode.DISK_FULL,
            FailureCode.UPLOAD_FAILED,
            FailureCode.NO_HEARTBEAT,
            FailureCode.AGENT_ERROR,
            FailureCode.IMAGE_NOT_PULLED,
        }
    ),
)
def test_a_failure_that_another_instance_would_repeat_ends_the_job(code: FailureCode) -> None:
    story = Story(new_job())
    story.running()
    story.look(60, markers={FIRST: marker(story.job, FIRST, Outcome.FAILED, code)})
    assert story.job.state is JobState.FAILED
    assert story.job.failure is code


def test_a_full_disk_is_tried_again_once_the_instance_is_gone() -> None:
    story = Story(new_job())
    story.running()
    actions = story.look(60, markers={FIRST: marker(story.job, FIRST, Outcome.FAILED, FailureCode.DISK_FULL)})
    assert of(Terminate, actions)
    assert not of(CallLaunch, actions)
    story.gone(FIRST)
    assert planned(story.look(120)).attempt == 2


def test_a_marker_whose_files_are_not_there_ends_nothing_while_its_instance_lives() -> None:
    story = Story(new_job())
    story.running()
    missing = MarkerSight(None, "final/adapter_model.safetensors is missing")
    story.look(60, markers={FIRST: missing})
    assert story.job.state is JobState.RUNNING
    story.gone(FIRST)
    story.look(120, markers={FIRST: missing})
    assert story.job.attempts[0].end is AttemptEnd.DIED
    assert "is missing" in story.job.attempts[0].end_reason


def test_a_marker_that_nobody_can_read_ends_its_attempt_at_once_and_another_instance_is_asked_for() -> None:
    story = Story(new_job())
    story.running()
    actions = story.look(60, markers={FIRST: MarkerSight(None, "not JSON", is_refused=True)})
    attempt = story.job.attempts[0]
    assert (attempt.end, attempt.ended_by) == (AttemptEnd.FAILED, "instance")
    assert attempt.end_reason == "agent_error: its completion marker was refused: not JSON"
    assert [action.instance_id for action in of(Terminate, actions)] == [FIRST]
    assert not of(CallLaunch, actions), "not before it is gone"
    story.gone(FIRST)
    assert planned(story.look(120)).attempt == 2


def test_three_fruitless_attempts_in_a_row_are_enough() -> None:
    story = Story(new_job())
    for number, instance_id in enumerate((FIRST, SECOND, THIRD)):
        story.look(number * 2000)
        story.launch(number * 2000 + 1, instance_id)
        story.gone(instance_id)
        story.look(number * 2000 + 2)
    assert story.job.state is JobState.FAILED
    assert len(story.job.attempts) == 3
    assert "dropforge doctor" in story.job.reason, "no instance ever spoke: the image is missing, or the way to it"


def test_a_job_whose_instances_spoke_is_not_told_to_look_for_the_image() -> None:
    story = Story(new_job())
    for number, instance_id in enumerate((FIRST, SECOND, THIRD)):
        story.look(number * 2000)
        story.launch(number * 2000 + 1, instance_id)
        if number == 1:
            story.look(number * 2000 + 2, heartbeats={instance_id: heartbeat(story.job, instance_id, seq=1, step=0)})
        story.gone(instance_id)
        story.look(number * 2000 + 3)
    assert story.job.state is JobState.FAILED
    assert "made no progress" in story.job.reason
    assert "dropforge doctor" not in story.job.reason


def test_interruptions_are_not_fruitless() -> None:
    story = Story(new_job())
    for number, instance_id in enumerate((FIRST, SECOND, THIRD)):
        story.look(number * 2000)
        story.launch(number * 2000 + 1, instance_id)
        story.gone(instance_id, "Server.SpotInstanceTermination")
        story.look(number * 2000 + 2)
    assert story.job.plan is not None


def test_max_attempts_holds() -> None:
    story = Story(new_job(limits={"max_attempts": 1}))
    story.running()
    story.gone(FIRST, "Server.SpotInstanceTermination")
    story.look(60)
    assert story.job.state is JobState.FAILED
    assert "max_attempts" in story.job.reason


def test_max_runtime_counts_over_all_attempts() -> None:
    story = Story(new_job(limits={"max_runtime": "1h"}))
    story.running()
    story.gone(FIRST, "Server.SpotInstanceTermination")
    plan = planned(story.look(1800))
    assert plan.deadline_at == at(1800) + timedelta(seconds=3600 - 1799)


def test_before_its_limit_the_instance_is_asked_for_a_last_save_and_ended_at_it() -> None:
    story = Story(new_job(limits={"max_runtime": "1h"}))
    story.running()
    story.tell(TicketWritten(FIRST), 31)
    beat = 2
    for seconds in range(240, 3480, 240):
        assert not of(WriteStop, story.look(seconds, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=(beat := beat + 1), step=beat)}))
    (stop,) = of(WriteStop, story.look(3485, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=99, step=99)}))
    assert stop.terminate_at == at(3600)
    story.tell(StopWritten(FIRST), 3486)
    story.look(3590)
    assert not story.job.ended
    actions = story.look(3601)
    assert story.job.state is JobState.STOPPED_DEADLINE
    assert of(Terminate, actions)


def test_a_stopped_marker_ends_it_as_ordered() -> None:
    story = Story(new_job(limits={"budget_usd": 0.4}))
    story.running()
    story.tell(TicketWritten(FIRST), 31)
    story.look(3430, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=5, step=50)})
    assert story.job.ending is not None
    assert story.job.ending.state is JobState.STOPPED_BUDGET
    story.look(3440, markers={FIRST: marker(story.job, FIRST, Outcome.STOPPED)})
    assert story.job.state is JobState.STOPPED_BUDGET


def test_a_finish_during_the_last_save_is_a_success() -> None:
    story = Story(new_job(limits={"budget_usd": 0.4}))
    story.running()
    story.look(3430, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=5, step=50)})
    story.look(3440, markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED


def test_a_deadline_ends_a_job_that_waits() -> None:
    story = Story(new_job(limits={"deadline": "2026-11-01T12:10:00+00:00"}))
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), 1)
    story.look(601)
    assert story.job.state is JobState.STOPPED_DEADLINE


def test_a_success_terminates_mails_once_writes_its_status_and_settles() -> None:
    story = Story(new_job())
    story.running()
    actions = story.look(60, markers={FIRST: marker(story.job, FIRST)})
    assert of(Terminate, actions)
    (letter,) = of(Publish, story.tell(TerminationAnswered(FIRST, "shutting-down"), 61))
    assert of(Publish, story.look(70)) == [], "claimed"
    last = story.tell(NoticePublished(letter.notice_id), 71)
    assert of(WriteStatus, last) == [WriteStatus(last=True)]
    story.tell(LastStatusWritten(), 72)
    assert story.job.settled
    assert story.look(100) == ()


@pytest.mark.parametrize("end", sorted(ENDS))
def test_ends_absorb_whatever_comes(end: JobState) -> None:
    story = Story(new_job())
    story.running()
    plan = story.job.attempts[0].plan
    story.job = story.job.model_copy(update={"state": end, "reason": "over"})
    events = (
        ManifestDeleted(),
        InterruptionWarned(FIRST),
        InstanceChanged(FIRST, "terminated"),
        LaunchSucceeded(plan, (LaunchedInstance(SECOND, plan.pools[0], 1.0),)),
        LaunchRefused(plan, RefusalKind.CONFIGURATION, "x"),
        BudgetAlerted(),
    )
    for event in events:
        story.tell(event, 500)
        assert story.job.state is end
    story.look(501, markers={FIRST: marker(story.job, FIRST)}, manifest_present=False)
    assert story.job.state is end
    assert story.job.plan is None


def test_the_handed_over_word_tells_an_interruption_even_without_a_warning() -> None:
    story = Story(new_job())
    story.running()
    story.look(50, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=9, step=20, phase=Phase.HANDED_OVER)})
    story.gone(FIRST)
    story.look(100)
    assert story.job.attempts[0].end is AttemptEnd.INTERRUPTED


def test_a_heartbeat_that_could_not_be_read_is_no_silence() -> None:
    """S3 may not answer us while the instance goes on writing; the first look that reads again decides."""
    story = Story(new_job())
    story.running()
    instances = story.decisions[-1].job.attempts
    (sight,) = [InstanceSight(a.instance_id, "running", {}, START, a.instance_type, a.zone, "spot") for a in instances]
    unread = story.tell(Looked(instances=(sight,), manifest_present=True, offers=OFFERS), 4000)
    assert of(Terminate, unread) == []
    read = story.tell(Looked(instances=(sight,), heartbeats={FIRST: None}, markers={FIRST: None}, manifest_present=True, offers=OFFERS), 4010)
    assert [one.instance_id for one in of(Terminate, read)] == [FIRST]
