"""A schedule: at which of its times a job is put, and why at some none is. Pure, like ``decide``; the tick looks each minute.

* A job is created in the transaction that writes its line and the time up to which times are dealt with: each time puts one job or none.
* Jobs do not overlap: while the last one is not over, a time is skipped. Of times that passed unseen only the newest counts, and only
  within the hour, for the next one comes by itself.
* The jobs' manifest is the schedule's, as a sweep's: its deletion ends the schedule and cancels the job at work. A manifest put over it
  changes the schedule, and no job that is at work.
"""

from datetime import datetime, timedelta

from control_plane.core.accept import born_at
from control_plane.core.actions import DriveChild, LookAgain
from control_plane.core.closing import end
from control_plane.core.events import FamilyLooked, Rescheduled
from control_plane.core.kin import Child
from control_plane.core.state import Job, JobState, moved
from control_plane.core.sweeps import LookedAt
from jobspec.schedule import LEAST_APART, Schedule, dated_name

#: Jobs that the record keeps the lines of; the jobs themselves have records of their own.
MOST_KEPT = 30


def gone_on(job: Job, look: FamilyLooked, now: datetime) -> LookedAt:
    """A schedule that is neither over nor cancelled: the job of a time that has passed, or its end."""
    if look.manifest_present is None:
        return job, (), []
    schedule, since = _schedule(job), job.dealt_with or job.accepted_at
    passed = schedule.passed(since, now)
    born: tuple[Job, ...] = ()
    told = job.reason.partition("; ")[2] if job.state is JobState.WAITING else ""
    if passed:
        job, born, told = _at(job.model_copy(update={"dealt_with": passed[-1]}), passed, look, now)
    upcoming = schedule.next_after(passed[-1] if passed else since)
    if upcoming is None and not _at_work(job):
        if job.state is JobState.ACCEPTED:
            # Its first look came after its last time.
            job = moved(job, JobState.WAITING, "its times are looked at", now)
        return end(job, JobState.SUCCEEDED, "the last time of the schedule has passed" + (f"; {told}" if told else ""), now), born, []
    reason = (f"next at {upcoming:%Y-%m-%d %H:%M} UTC" if upcoming is not None else "its last job is at work") + (f"; {told}" if told else "")
    return moved(job, JobState.WAITING, reason, now), born, [*(DriveChild(one.job_id) for one in born), *([LookAgain()] if born else [])]


def rescheduled(job: Job, event: Rescheduled, now: datetime) -> Job:
    """The schedule with another manifest: times up to now are the old one's business."""
    if job.ended or job.cancel_asked_at is not None or job.manifest_ref == event.ref:
        return job
    job = job.model_copy(update={"manifest": event.manifest, "manifest_ref": event.ref, "dealt_with": now})
    return moved(job, JobState.WAITING, "the manifest was changed", now)


def _at(job: Job, passed: tuple[datetime, ...], look: FamilyLooked, now: datetime) -> tuple[Job, tuple[Job, ...], str]:
    """What the newest time that has passed comes to."""
    at = passed[-1]
    missed = f", {len(passed) - 1} before it passed unseen" if len(passed) > 1 else ""
    if now - at >= LEAST_APART:
        return job, (), f"{at:%Y-%m-%d %H:%M} was missed: it was seen {(now - at) // timedelta(minutes=1)} minutes late{missed}"
    if busy := _at_work(job):
        return job, (), f"{at:%Y-%m-%d %H:%M} was skipped: {busy[0].name} is not over{missed}"
    name = dated_name(job.name, at)
    if (holder := look.taken.get(name)) is not None:
        return job, (), f"{at:%Y-%m-%d %H:%M} was skipped: job {holder} has the name {name}{missed}"
    child = born_at(job, at, now)
    number = job.children[-1].number + 1 if job.children else 1
    assert child.manifest is not None
    line = Child(number=number, name=child.name, job_id=child.job_id, choice={}, limit_usd=child.manifest.limits.budget_usd)
    return job.model_copy(update={"children": (*job.children, line)[-MOST_KEPT:]}), (child,), f"{child.name} was put{missed}"


def _at_work(job: Job) -> list[Child]:
    return [child for child in job.children if not child.ended]


def _schedule(job: Job) -> Schedule:
    assert job.manifest is not None
    assert job.manifest.schedule is not None
    return job.manifest.schedule
