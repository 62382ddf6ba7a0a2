"""Idle GPUs: when one is, who is told, and how a job ends whose manifest wants it to."""

from typing import Any

import pytest

from control_plane.core import report
from control_plane.core.actions import Action, Publish, Terminate, WriteStop
from control_plane.core.events import TicketWritten
from control_plane.core.letters import letter_of
from control_plane.core.records import AttemptEnd
from control_plane.core.state import JobState, NoticeKind
from jobspec.heartbeat import GpuUse, Phase
from jobspec.marker import FailureCode, Outcome
from tests.core.worlds import FIRST, STACK, Story, at, gpu, heartbeat, marker, new_job, of, planned

STOP = {"idle_gpu": {"action": "stop"}}


def told(gpus: tuple[GpuUse, ...], phase: Phase = Phase.TRAINING, **changes: Any) -> tuple[Story, tuple[Action, ...]]:
    """A job whose instance tells this of its GPUs, in its 2000th second."""
    story = Story(new_job(**changes))
    story.running()
    story.tell(TicketWritten(FIRST), 31)
    return story, story.look(2000, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2, step=20, phase=phase, gpus=gpus)})


def letters(story: Story) -> list[tuple[str, str]]:
    return [letter_of(story.job, notice, STACK, at(2000)) for notice in story.job.notices if notice.kind is NoticeKind.IDLE]


def test_an_idle_gpu_is_told_of_once_and_the_job_goes_on() -> None:
    story, actions = told((gpu(1.5),))
    assert of(Publish, actions) == [Publish(f"{story.job.job_id}#idle#1")]
    assert (story.job.state, story.job.ending) == (JobState.RUNNING, None)
    ((subject, body),) = letters(story)
    assert subject == "[Dropforge] tale: an idle GPU"
    assert "1 of 1 GPU(s) of attempt 1 were in use for 1.5 % of the last 30m of training at most (limits.idle_gpu.percent is 5)" in body
    assert "micro_batch_size" in body
    again = story.look(2060, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=21, gpus=(gpu(1.4),))})
    assert not of(Publish, again)


@pytest.mark.parametrize(
    ("gpus", "phase"),
    [
        ((), Phase.TRAINING),
        ((gpu(0, window_s=1799),), Phase.TRAINING),
        ((gpu(5),), Phase.TRAINING),
        *(((gpu(0),), phase) for phase in Phase if phase is not Phase.TRAINING),
    ],
    ids=["nothing is told", "no whole window yet", "at its bound", *(phase.value for phase in Phase if phase is not Phase.TRAINING)],
)
@pytest.mark.parametrize("action", ["report", "stop"])
def test_no_gpu_is_idle_without_a_whole_window_of_training_below_the_bound(gpus: tuple[GpuUse, ...], phase: Phase, action: str) -> None:
    story, _ = told(gpus, phase, limits={"idle_gpu": {"action": action}})
    assert (letters(story), story.job.ending) == ([], None)


def test_bound_and_window_are_the_manifests() -> None:
    story, _ = told((gpu(30, window_s=60),), limits={"idle_gpu": {"percent": 40, "window": "1m"}})
    assert len(letters(story)) == 1


def test_who_wants_no_such_e_mail_gets_none_and_the_status_says_it_all_the_same() -> None:
    story, _ = told((gpu(0), gpu(90, index=1)), notify={"on": []})
    assert letters(story) == []
    (attempt,) = report.status_of(story.job, STACK, at(2000)).attempts
    assert (attempt.idle_gpus, [one.percent for one in attempt.gpus]) == (1, [0, 90])


def test_a_job_that_is_to_be_stopped_is_asked_for_a_last_save_and_fails_with_the_code() -> None:
    story, actions = told((gpu(0),), limits=STOP)
    (order,) = of(WriteStop, actions)
    assert (order.instance_id, order.terminate_at) == (FIRST, at(2120))
    assert order.reason.startswith("gpu_idle: ")
    assert not of(Terminate, actions), "it saves first"
    assert story.job.state is JobState.RUNNING
    last = story.look(2060, markers={FIRST: marker(story.job, FIRST, Outcome.STOPPED)})
    assert (story.job.state, story.job.failure, story.job.attempts[0].end) == (JobState.FAILED, FailureCode.GPU_IDLE, AttemptEnd.STOPPED)
    assert [one.instance_id for one in of(Terminate, last)] == [FIRST]
    (notice,) = story.job.notices
    subject, body = letter_of(story.job, notice, STACK, at(2060))
    assert subject.startswith("[Dropforge] tale failed")
    assert "gpu_idle: 1 of 1 GPU(s)" in body
    assert "micro_batch_size" in body


def test_an_idle_instance_that_does_not_save_in_time_is_ended() -> None:
    story, _ = told((gpu(0),), limits=STOP)
    assert not of(Terminate, story.look(2119))
    assert [one.instance_id for one in of(Terminate, story.look(2120))] == [FIRST]
    assert (story.job.state, story.job.failure) == (JobState.FAILED, FailureCode.GPU_IDLE)


def test_no_replacement_is_asked_for_once_the_stop_is_ordered() -> None:
    story, _ = told((gpu(0),), limits=STOP)
    story.gone(FIRST)
    assert story.look(2060)
    assert (story.job.plan, story.job.state, story.job.failure) == (None, JobState.FAILED, FailureCode.GPU_IDLE)


def test_a_job_that_uses_one_gpu_of_two_is_told_of_and_not_stopped() -> None:
    story, _ = told((gpu(95), gpu(0, index=1)), limits=STOP)
    assert story.job.ending is None
    ((_, body),) = letters(story)
    assert "1 of 2 GPU(s)" in body


def test_a_finished_job_is_finished_however_idle_its_gpu_was() -> None:
    story = Story(new_job(limits=STOP))
    story.running()
    beat = heartbeat(story.job, FIRST, seq=2, step=100, gpus=(gpu(0),))
    story.look(2000, heartbeats={FIRST: beat}, markers={FIRST: marker(story.job, FIRST)})
    assert (story.job.state, story.job.ending) == (JobState.SUCCEEDED, None)


def test_money_and_time_go_before_idleness() -> None:
    story, _ = told((gpu(0),), limits=STOP | {"budget_usd": 0.1})
    assert story.job.ending is not None
    assert (story.job.ending.state, story.job.ending.failure) == (JobState.STOPPED_BUDGET, None)


def test_a_warned_instance_is_left_to_its_successor() -> None:
    story = Story(new_job(limits=STOP))
    story.look(0)
    story.launch(1, FIRST)
    story.job = story.job.with_attempt(story.job.attempts[0].model_copy(update={"warned_at": at(1990)}))
    actions = story.look(2000, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=1, step=20, gpus=(gpu(0),))})
    assert story.job.ending is None
    assert planned(actions).attempt == 2


def test_a_letter_that_goes_out_late_says_that_it_is_over() -> None:
    story, _ = told((gpu(0),))
    story.look(2060, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=21, gpus=(gpu(80),))})
    ((_, body),) = letters(story)
    assert "was idle, and is not any more" in body
