"""Where the minutes of a start went: the stages of a status add up, whatever the two clocks say."""

import pytest

from control_plane.core.report import start_of, status_of
from jobspec.heartbeat import Heartbeat
from jobspec.wire import dump, load
from tests.core.worlds import FIRST, STACK, Story, at, heartbeat, new_job


def started(first_step_s: float | None, **stages_s: float) -> Story:
    story = Story(new_job())
    story.running()
    facts = {"stages_s": stages_s, "first_step_at": at(first_step_s) if first_step_s is not None else None}
    story.look(900, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=20).model_copy(update=facts)})
    return story


def test_what_no_clock_of_the_instance_saw_is_the_launch_and_all_stages_add_up() -> None:
    story = started(400.0, first_step=20.0, pull=150.0, boot=40.0)
    attempt = status_of(story.job, STACK, at(900)).attempts[0]
    launched_s = (story.job.attempts[0].launched_at - at(0)).total_seconds()
    assert attempt.start_s == 400.0 - launched_s
    assert list(attempt.stages_s.items()) == [("launch", attempt.start_s - 210.0), ("boot", 40.0), ("pull", 150.0), ("first_step", 20.0)]
    assert sum(attempt.stages_s.values()) == pytest.approx(attempt.start_s)


def test_a_clock_that_is_behind_gives_no_negative_launch() -> None:
    assert start_of(started(-3600.0, pull=150.0).job.attempts[0]) == (150.0, {"launch": 0.0, "pull": 150.0})


def test_before_the_first_step_and_of_an_old_agent_nothing_is_told() -> None:
    assert start_of(started(None, stage_model=60.0).job.attempts[0]) == (None, {})


def test_a_heartbeat_of_before_is_read_and_a_stage_that_nobody_knows_is_passed_over() -> None:
    old = load(
        Heartbeat,
        b'{"job_id":"tale-1","attempt":1,"instance_id":"' + FIRST.encode() + b'","seq":3,"at":"2026-11-01T00:00:00Z","phase":"training","stages_s":{"load":3}}',
    )
    assert (old.stages_s, old.first_step_at) == ({"load": 3.0}, None)
    assert load(Heartbeat, dump(old)) == old
    assert "warp" not in start_of(started(400.0, warp=9.0).job.attempts[0])[1]
