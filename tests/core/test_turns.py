"""A job that may not start yet: how it waits, when it stops waiting, and its place in the line."""

from typing import Any

import pytest

from control_plane.core.actions import CallLaunch
from control_plane.core.events import LaunchRefused
from control_plane.core.failures import RefusalKind
from control_plane.core.state import Job, JobState, WaitKind
from control_plane.core.turns import place_of, turn_of
from tests.core.worlds import FIRST, Story, at, new_job, of, planned

TAKEN = "1 jobs run, as many as may (MaxConcurrentJobs)"


def test_without_a_turn_nothing_is_planned_and_the_reason_is_told() -> None:
    story = Story(new_job())
    assert not of(CallLaunch, story.look(0, turn=TAKEN))
    assert (story.job.state, story.job.reason) == (JobState.WAITING, f"turn: {TAKEN}")
    assert story.job.wait is not None
    assert story.job.wait.kind is WaitKind.TURN


def test_a_wait_for_a_turn_writes_nothing_anew_for_a_minute() -> None:
    story = Story(new_job())
    story.look(0, turn=TAKEN)
    before = story.job
    assert story.look(59, turn=TAKEN) == ()
    assert story.job == before


def test_a_turn_that_is_free_is_taken_at_once() -> None:
    story = Story(new_job())
    story.look(0, turn=TAKEN)
    assert planned(story.look(1)).attempt == 1


def test_a_job_that_runs_is_not_asked_for_its_turn() -> None:
    """The look asks for none; and should a turn be refused to it, its instance goes on."""
    story = Story(new_job())
    story.running()
    story.look(60, turn=TAKEN)
    assert story.job.state is JobState.RUNNING


def test_a_hold_is_told_before_a_turn() -> None:
    story = Story(new_job())
    story.look(0, turn=TAKEN, hold="the month's money is spent")
    assert story.job.wait is not None
    assert story.job.wait.kind is WaitKind.HELD


def test_a_cancelled_job_does_not_wait_for_its_turn() -> None:
    story = Story(new_job())
    story.look(0, turn=TAKEN)
    story.look(10, turn=TAKEN, manifest_present=False)
    assert story.job.state is JobState.CANCELLED


def started(job: Job, **more: Any) -> Job:
    story = Story(job)
    story.running()
    return story.job.model_copy(update=more)


def queued(job: Job) -> Job:
    story = Story(job)
    story.look(0, turn=TAKEN)
    return story.job


def starved(job: Job) -> Job:
    story = Story(job)
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.CAPACITY, "none", plan.pools), 1)
    return story.job


def cancelled(job: Job) -> Job:
    story = Story(job)
    story.look(0, turn=TAKEN)
    story.look(1, manifest_present=False)
    return story.job


@pytest.mark.parametrize(("make", "in_line"), [(lambda job: job, True), (queued, True), (started, False), (starved, False), (cancelled, False)])
def test_only_those_who_wait_for_a_turn_stand_in_line(make: Any, in_line: bool) -> None:
    job = make(new_job())
    assert place_of(job) == (turn_of(job) if in_line else f"0#{job.job_id}")
    assert (place_of(job) > "1#") is in_line


def test_a_job_occupies_from_its_plan_until_its_last_instance_is_gone() -> None:
    story = Story(new_job())
    assert not story.job.occupies
    story.look(0)
    assert story.job.occupies
    story.launch(1, FIRST)
    assert story.job.occupies
    story.gone(FIRST, "Server.SpotInstanceTermination")
    story.look(60, offers=None)
    assert not story.job.occupies


def test_an_ended_job_occupies_until_its_instance_is_gone() -> None:
    story = Story(new_job())
    story.running()
    story.look(60, manifest_present=False)
    assert story.job.ended
    assert story.job.occupies
    story.gone(FIRST)
    story.look(120)
    assert not story.job.occupies


def came(seconds: float, priority: str = "normal") -> Job:
    return new_job(priority=priority).model_copy(update={"accepted_at": at(seconds)})


HOUR = 3600


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (came(0), came(0.001)),
        (came(6 * HOUR - 1, "high"), came(0)),
        (came(0), came(6 * HOUR + 1, "high")),
        (came(6 * HOUR - 1), came(0, "low")),
        (came(0, "low"), came(6 * HOUR + 1)),
        (came(12 * HOUR - 1, "high"), came(0, "low")),
        (came(0, "high"), came(1, "high")),
    ],
)
def test_the_line_is_by_arrival_with_six_hours_for_a_priority(first: Job, second: Job) -> None:
    assert turn_of(first) < turn_of(second)
