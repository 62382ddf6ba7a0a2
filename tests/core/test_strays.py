"""Which instances the sweep marks, and which it ends: ours, on nobody's record, twice seen; or past their own deadline."""

from typing import Any

import pytest

from control_plane.core.events import InstanceSight
from control_plane.core.state import Job
from control_plane.core.strays import Stray, find_strays, is_overdue
from jobspec import tags
from tests.core.worlds import FIRST, SECOND, Story, at, new_job

PROJECT, GRACE_S = "p", 300.0


def running_job() -> Job:
    story = Story(new_job())
    story.running()
    return story.job


def sight(job: Job, instance_id: str = SECOND, state: str = "running", **own_tags: str) -> InstanceSight:
    """An instance that carries the job's tags, launched at 0, its deadline an hour later."""
    born = tags.instance_tags(project=PROJECT, job_id=job.job_id, attempt=1, client_token="df-unknown", deadline_at=at(3600))
    return InstanceSight(instance_id, state, born | own_tags, at(0), "g5.xlarge", "us-east-1a")


def strays(seconds: float, one: InstanceSight, jobs: dict[str, Job | None]) -> list[Stray]:
    return find_strays(PROJECT, (one,), jobs, GRACE_S, at(seconds))


def since(seconds: float) -> dict[str, str]:
    return {tags.STRAY_SINCE: str(int(at(seconds).timestamp()))}


def test_a_stray_is_marked_after_the_grace_and_ended_after_a_second_look() -> None:
    job = running_job()
    jobs: dict[str, Job | None] = {job.job_id: job}
    assert strays(299, sight(job), jobs) == []
    assert strays(300, sight(job), jobs) == [Stray(SECOND, "no job names it", "mark")]
    assert strays(344, sight(job, **since(300)), jobs) == [Stray(SECOND, "no job names it", "mark")]
    assert strays(345, sight(job, **since(300)), jobs) == [Stray(SECOND, "no job names it", "end")]


@pytest.mark.parametrize("mark", ["", "yesterday", "-5", "²", "9" * 12])
def test_a_mark_that_is_no_time_is_no_mark(mark: str) -> None:
    job = running_job()
    (stray,) = strays(600, sight(job, **{tags.STRAY_SINCE: mark}), {job.job_id: job})
    assert stray.verdict == "mark"


def test_what_a_job_names_or_waits_for_is_no_stray_however_it_is_marked_and_its_mark_is_cleared() -> None:
    job = running_job()
    plan = job.attempts[0].plan
    waiting = job.model_copy(update={"plan": plan.model_copy(update={"client_token": "df-waits"})})
    cleared = "its job names it after all", "clear"
    assert strays(600, sight(job, FIRST, **since(0)), {job.job_id: job}) == [Stray(FIRST, *cleared)]
    assert strays(600, sight(job, **{tags.LAUNCH: "df-waits"}, **since(0)), {job.job_id: waiting}) == [Stray(SECOND, *cleared)]
    assert strays(600, sight(job, FIRST), {job.job_id: job}) == [], "an unmarked one has nothing to clear"


@pytest.mark.parametrize("change", [{"settled": True}, {"attempts": ()}])
def test_a_job_that_is_settled_or_never_named_it_claims_nothing(change: dict[str, Any]) -> None:
    job = running_job().model_copy(update=change)
    assert strays(600, sight(job, FIRST), {job.job_id: job}) == [Stray(FIRST, "no job names it", "mark")]


def test_of_a_job_that_could_not_be_read_only_the_deadline_counts() -> None:
    job = running_job()
    assert strays(600, sight(job, **since(0)), {}) == []
    assert strays(3720, sight(job), {}) == [Stray(SECOND, "it is past the deadline in its tags", "end")]


def test_without_a_jobs_tag_it_is_nobodys() -> None:
    job = running_job()
    assert strays(600, sight(job, **{tags.JOB: ""}), {"": None}) == [Stray(SECOND, "no job names it", "mark")]


@pytest.mark.parametrize(("project", "state"), [("other", "running"), (PROJECT, "terminated"), (PROJECT, "shutting-down")])
def test_another_projects_and_what_is_ending_are_left_alone(project: str, state: str) -> None:
    job = running_job()
    one = sight(job, state=state, **{tags.PROJECT: project}, **since(0))
    assert strays(9999, one, {job.job_id: None}) == []
    assert not is_overdue(PROJECT, one, at(9999))


@pytest.mark.parametrize(("seconds", "overdue"), [(3600, False), (3719, False), (3720, True)])
def test_two_minutes_after_its_deadline_it_is_overdue(seconds: float, overdue: bool) -> None:
    assert is_overdue(PROJECT, sight(running_job()), at(seconds)) is overdue


@pytest.mark.parametrize("deadline", ["", "soon", "1e9"])
def test_a_deadline_that_cannot_be_read_ends_nothing(deadline: str) -> None:
    assert not is_overdue(PROJECT, sight(running_job(), **{tags.DEADLINE: deadline}), at(10**6))
