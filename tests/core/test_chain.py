"""``after``: whom a job waits for, how long, when it starts, and why it fails for the other's sake."""

from datetime import timedelta
from typing import Any

import pytest

from control_plane.core.accept import accepted
from control_plane.core.actions import CallLaunch, LookAgain
from control_plane.core.chain import ABSENT_GRACE
from control_plane.core.closing import end
from control_plane.core.events import Before
from control_plane.core.state import Job, JobState, ManifestRef, WaitKind
from control_plane.core.turns import WAITING, place_of
from tests.core.worlds import FIRST, SECOND, START, Story, at, manifest, marker, of

#: Seconds.
GRACE = ABSENT_GRACE / timedelta(seconds=1)


def other(version: str = "v0", **changes: Any) -> Story:
    """The job that is waited for, running."""
    ref = ManifestRef(bucket="data", key="jobs/first.yaml", version_id=version)
    story = Story(accepted(manifest(**{"name": "first", **changes}), ref, START))
    story.running()
    return story


def succeeded(**changes: Any) -> Job:
    story = other(**changes)
    story.look(100, markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED
    return story.job


def failed(seconds: float, version: str = "v0") -> Job:
    return end(other(version).job, JobState.FAILED, "what failed", at(seconds))


def follower(**changes: Any) -> Story:
    return Story(accepted(manifest(**{"after": {"job": "first"}, **changes}), ManifestRef(bucket="data", key="jobs/tale.yaml", version_id="v1"), START))


def whole(job: Job) -> Before:
    return Before(job, job)


def test_it_waits_while_the_other_runs_and_asks_for_no_instance() -> None:
    story = follower()
    actions = story.look(10, before=Before(other().job))
    assert not of(CallLaunch, actions)
    assert (story.job.state, story.job.wait and story.job.wait.kind) == (JobState.WAITING, WaitKind.AFTER)
    assert "is not over yet" in story.job.reason
    lines = len(story.job.history)
    story.look(70, before=Before(other().job))
    assert len(story.job.history) == lines, "a wait that goes on is no news"


def test_it_starts_in_the_look_after_the_one_that_finds_the_other_successful_from_its_adapter() -> None:
    story, source = follower(), succeeded()
    story.look(10, before=Before(other().job))
    assert of(LookAgain, story.look(130, before=whole(source))), "where it may start is looked for at once"
    assert of(CallLaunch, story.look(130))
    assert story.job.follows is not None
    assert story.job.follows.start is not None
    assert story.job.follows.start.prefix == f"runs/{source.job_id}/{source.attempts[0].writer}/final/"


def test_what_the_other_made_is_in_the_ticket() -> None:
    from control_plane.core.events import Rules
    from control_plane.tickets import ticket_of

    story, source = follower(), succeeded()
    story.look(130, before=whole(source))
    story.look(131)
    story.launch(132, SECOND)
    ticket = ticket_of(story.job, SECOND, data_bucket="data", outputs_bucket="outputs", heartbeat_s=30, rules=Rules(), now=at(132))
    assert story.job.follows is not None
    assert ticket.start == story.job.follows.start


def test_it_takes_the_shape_of_the_adapter_that_it_goes_on_with() -> None:
    story = follower(adapter={"dropout": 0.2})
    story.look(130, before=whole(succeeded(adapter={"r": 4, "alpha": 8, "target_modules": ["q_proj"]})))
    assert story.job.manifest is not None
    adapter = story.job.manifest.adapter
    assert (adapter.r, adapter.alpha, adapter.target_modules, adapter.dropout) == (4, 8, ("q_proj",), 0.2)


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ({"adapter": {"r": 8}}, {"adapter": {"r": 4}}, "adapter.r is 4 there and 8 here"),
        ({}, {"adapter": {"type": "full"}}, "has no adapter; say `use: model`"),
        ({"model": {"s3": "models/other/"}}, {}, "its model is models/m/, and this job's is models/other/"),
        ({"after": {"job": "first", "use": "model"}}, {}, "made an adapter and no whole model"),
        ({"method": "reward"}, {}, "its method is sft, this job's is reward"),
    ],
)
def test_what_does_not_fit_fails_with_the_reason(mine: dict[str, Any], theirs: dict[str, Any], says: str) -> None:
    story = follower(**mine)
    story.look(130, before=whole(succeeded(**theirs)))
    assert story.job.state is JobState.FAILED
    assert says in story.job.reason
    assert not story.job.attempts


@pytest.mark.parametrize(("adapter", "folder"), [({"type": "full"}, "final/"), ({"merge": True}, "final/merged/")])
def test_a_whole_model_is_the_base(adapter: dict[str, Any], folder: str) -> None:
    story = follower(after={"job": "first", "use": "model"}, adapter={"r": 2})
    story.look(130, before=whole(succeeded(adapter=adapter)))
    assert story.job.follows is not None
    assert story.job.follows.start is not None
    assert story.job.follows.start.prefix.endswith(f"/{folder}")
    assert story.job.manifest is not None
    assert story.job.manifest.adapter.r == 2


def test_an_adapter_on_another_jobs_model_cannot_be_gone_on_with() -> None:
    middle = follower(name="middle", after={"job": "first", "use": "model"})
    middle.look(130, before=whole(succeeded(adapter={"type": "full"})))
    middle.look(131)
    middle.launch(132, SECOND)
    middle.look(140, markers={SECOND: marker(middle.job, SECOND)})
    last = follower(after={"job": "middle"})
    last.look(150, before=whole(middle.job))
    assert last.job.state is JobState.FAILED
    assert "on the model of another job" in last.job.reason


def test_only_the_order_may_count() -> None:
    story = follower(after={"job": "first", "use": "nothing"}, model={"s3": "models/other/"})
    story.look(130, before=whole(succeeded()))
    assert of(CallLaunch, story.look(131))
    assert story.job.follows is not None
    assert story.job.follows.start is None


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.STOPPED_BUDGET, JobState.STOPPED_DEADLINE])
def test_it_fails_with_the_reason_once_the_other_ends_otherwise(state: JobState) -> None:
    story = follower()
    story.look(10, before=Before(other().job))
    story.look(70, before=Before(end(other().job, state, "what went wrong", at(60))))
    assert story.job.state is JobState.FAILED
    assert f"ended as {state}: what went wrong" in story.job.reason


def test_a_chain_may_be_put_in_any_order() -> None:
    story = follower()
    story.look(1, before=Before(None))
    assert story.job.state is JobState.WAITING
    assert "there is no job first" in story.job.reason
    story.look(GRACE - 1, before=Before(other().job))
    story.look(GRACE + 60, before=whole(succeeded()))
    assert not story.job.awaits_another


def test_a_job_that_never_comes_is_waited_for_some_minutes() -> None:
    story = follower()
    story.look(GRACE - 1, before=Before(None))
    assert not story.job.ended
    story.look(GRACE, before=Before(None))
    assert (story.job.state, story.job.reason) == (JobState.FAILED, "after: there is no job first")


def test_an_old_failure_is_not_taken_for_the_job_that_is_to_come() -> None:
    story = follower()
    story.look(5, before=Before(failed(-60)))
    assert not story.job.ended
    story.look(20, before=whole(succeeded(version="v2")))
    assert not story.job.awaits_another
    late = follower()
    late.look(GRACE, before=Before(failed(-60)))
    assert "had ended as FAILED before this job was put" in late.job.reason


def test_the_job_that_was_found_first_is_the_one_that_counts() -> None:
    story = follower()
    story.look(10, before=Before(other().job))
    assert story.job.follows is not None
    assert story.job.follows.job_id == other().job.job_id


def test_the_wait_is_bounded() -> None:
    story = follower(after={"job": "first", "max_wait": 3600})
    story.look(3599, before=Before(other().job))
    assert not story.job.ended
    story.look(3600, before=None)
    assert (story.job.state, "within after.max_wait (1h)" in story.job.reason) == (JobState.FAILED, True)


def test_what_could_not_be_read_decides_nothing() -> None:
    story = follower()
    story.look(10, before=Before(other().job))
    before = story.job
    story.look(70, before=None)
    assert story.job == before


def test_a_cancellation_ends_the_wait() -> None:
    story = follower()
    story.look(10, before=Before(other().job))
    story.look(70, before=Before(other().job), manifest_present=False)
    assert story.job.state is JobState.CANCELLED


def test_a_job_that_waits_for_another_stands_in_nobodys_way() -> None:
    story = follower()
    assert not place_of(story.job).startswith(WAITING)
    story.look(10, before=Before(other().job))
    assert not place_of(story.job).startswith(WAITING)


def test_the_time_in_which_it_waited_for_another_counts_for_no_max_wait() -> None:
    story = follower(limits={"max_wait": 600})
    story.look(0, before=Before(other().job))
    story.look(90_000, before=whole(succeeded()))
    assert of(CallLaunch, story.look(90_000))
