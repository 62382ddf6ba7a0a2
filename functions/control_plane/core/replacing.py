"""When the next instance is planned: where none serves, or beside an on-demand one that spot would relieve. ``placement`` says where it runs."""

from datetime import datetime, timedelta

from control_plane.core import launching, placement
from control_plane.core.closing import end
from control_plane.core.events import Looked
from control_plane.core.history import history_of
from control_plane.core.pools import prices_of
from control_plane.core.records import AttemptEnd
from control_plane.core.state import QUEUED, Job, JobState, WaitKind, moved
from jobspec.heartbeat import Phase

#: Attempts in a row that end without one step of progress, interruptions apart, before the job is given up.
MAX_FRUITLESS_ATTEMPTS = 3


def replaced(job: Job, look: Looked, now: datetime) -> Job:
    """Plans the next instance when the job has none, or only warned ones; ends the job where it has had its attempts, or its time to wait."""
    if job.plan is not None or any(not attempt.leaves and (attempt.is_open or attempt.over_at is None) for attempt in job.attempts):
        return job
    assert job.manifest is not None, "a job without a manifest is REJECTED, and ended"
    limits = job.manifest.limits
    if len(job.attempts) >= limits.max_attempts:
        return job if _draining(job) else end(job, JobState.FAILED, f"max_attempts ({limits.max_attempts}) used up; the last one {_last_words(job)}", now)
    if _fruitless_in_a_row(job) >= MAX_FRUITLESS_ATTEMPTS:
        return end(job, JobState.FAILED, _fruitless(job), now)
    if job.wait is not None and job.wait.kind not in QUEUED and now - job.wait.since >= timedelta(seconds=limits.max_wait):
        return job if _draining(job) else end(job, JobState.FAILED, f"no instance within max_wait: {job.wait.reason}", now)
    return _planned(job, look, now)


def _planned(job: Job, look: Looked, now: datetime) -> Job:
    """The job with its launch plan, or with what it waits for first: the hold, its turn, capacity."""
    if look.hold is not None:
        return launching.queued(job, WaitKind.HELD, look.hold, now)
    waiting = placement.is_waiting(job, now)
    if look.offers is None or (waiting and not placement.may_press(job)):
        return job
    if look.turn is not None:
        return launching.queued(job, WaitKind.TURN, look.turn, now)
    placed = placement.place(job, look.offers, history_of(job, now), now)
    if placed is None:
        zones = ", ".join(sorted(look.offers.subnets)) or "none"
        return end(job, JobState.FAILED, f"compute.zones names no zone of this stack; it has: {zones}", now)
    if isinstance(placed, placement.Patience):
        return job if waiting else launching.wait(job, WaitKind.CAPACITY, placed.reason, now)
    job = job.model_copy(update={"plan": placed})
    return moved(job, JobState.PLANNED, f"attempt {placed.attempt}: {placed.market}, {len(placed.pools)} pool(s){prices_of(placed, look.offers)}", now)


def returned(job: Job, look: Looked, now: datetime) -> Job:
    """Plans a spot instance beside an on-demand instance that trains, where spot pays. The one that works is left alone until it is ready."""
    alive = [attempt for attempt in job.attempts if attempt.is_open or attempt.over_at is None]
    if job.plan is not None or len(alive) != 1 or look.offers is None or look.hold is not None or not alive[0].serves:
        return job
    (working,) = alive
    if not placement.may_return(job, working) or working.heartbeat is None or working.heartbeat.phase is not Phase.TRAINING:
        return job
    plan = placement.place_return(job, look.offers, history_of(job, now), now)
    return job.model_copy(update={"plan": plan}) if plan is not None else job


def _draining(job: Job) -> bool:
    """A warned attempt is still open: it may yet finish, or publish its last checkpoint."""
    return any(attempt.is_open for attempt in job.attempts)


def _fruitless_in_a_row(job: Job) -> int:
    """How many of the newest attempts died or failed without a step beyond where they began; interruptions do not count."""
    count = 0
    for attempt in reversed(job.attempts):
        beat = attempt.heartbeat
        progressed = beat is not None and beat.step > (beat.first_step or 0)
        if attempt.end in (None, AttemptEnd.INTERRUPTED, AttemptEnd.RELIEVED) or progressed:
            break
        count += 1
    return count


def _fruitless(job: Job) -> str:
    """That the job made no progress, and what to do where no instance of it ever spoke: then it is not the job, it is the stack."""
    said = f"{MAX_FRUITLESS_ATTEMPTS} attempts in a row made no progress; the last one {_last_words(job)}"
    if any(attempt.heartbeat is not None for attempt in job.attempts[-MAX_FRUITLESS_ATTEMPTS:]):
        return said
    return f"{said}. None of them sent a heartbeat: is the image in its repository, and do instances reach it and S3? `dropforge doctor`, lines image and route"


def _last_words(job: Job) -> str:
    last = job.attempts[-1] if job.attempts else None
    return f"{last.end}: {last.end_reason}" if last is not None and last.end is not None else "is not known to have ended"
