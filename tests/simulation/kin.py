"""The promises about jobs that are related, K1 to K4: those that follow another. Numbers as in docs/reliability.md."""

from typing import TYPE_CHECKING

from control_plane.core.chain import ABSENT_GRACE
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, WaitKind
from jobspec import keys

if TYPE_CHECKING:
    from tests.simulation.world import World

Jobs = dict[str, Job]


def _forerunners(jobs: Jobs, job: Job) -> list[Job]:
    if job.manifest is None or job.manifest.after is None:
        return []
    return [one for one in jobs.values() if one.name == job.manifest.after.job]


def follows_in_order(world: "World", jobs: Jobs, job: Job) -> None:
    """K1: no instance of a job that follows another starts before that one has succeeded, nor from what no finished attempt of it made."""
    if job.manifest is None or job.manifest.after is None:
        return
    if job.manifest.after.use == "nothing":
        if all(one.state is not JobState.SUCCEEDED for one in _forerunners(jobs, job)):
            world.fail("K1", f"{job.job_id} starts, and no {job.manifest.after.job} has succeeded")
        return
    made = {
        keys.final_prefix(one.job_id, attempt.writer)
        for one in _forerunners(jobs, job)
        if one.state is JobState.SUCCEEDED
        for attempt in one.attempts
        if attempt.end is AttemptEnd.COMPLETED
    }
    start = job.follows.start.prefix if job.follows is not None and job.follows.start is not None else ""
    if start not in made:
        world.fail("K1", f"{job.job_id} starts from {start or 'nothing'}, and {job.manifest.after.job} has made {sorted(made)}")


def failed_for_a_reason(world: "World", jobs: Jobs, job: Job) -> None:
    """K2: no job fails for the sake of one that has succeeded, nor for want of one that was there in time."""
    if not job.reason.startswith("after:") or job.state is not JobState.FAILED or "max_wait" in job.reason:
        return
    others = _forerunners(jobs, job)
    meant = jobs.get(job.follows.job_id) if job.follows is not None else None
    if meant is not None and meant.state is JobState.SUCCEEDED:
        world.fail("K2", f"{job.job_id} failed ({job.reason}), and {meant.job_id} has succeeded")
    if job.follows is None and any(one.accepted_at <= job.accepted_at and one.state is JobState.SUCCEEDED for one in others):
        world.fail("K2", f"{job.job_id} failed ({job.reason}), and a job of that name had succeeded")
    if job.follows is None and job.updated_at - job.accepted_at < ABSENT_GRACE:
        world.fail("K2", f"{job.job_id} was given up before the other could come")


def starts_soon(world: "World", jobs: Jobs, job: Job, ended_s: dict[str, float], within_s: float) -> None:
    """K3: a job starts, or fails, soon after the one that it waits for has ended."""
    if not job.awaits_another or job.ended or job.follows is None:
        return
    since = ended_s.get(job.follows.job_id)
    if since is not None and world.scheduler.now - max(since, world.scenario.healed_s) > within_s:
        world.fail("K3", f"{job.job_id} still waits for {job.follows.job_id}, which ended {world.scheduler.now - since:.0f} s ago")


def stands_in_nobodys_way(world: "World", jobs: Jobs, job: Job, since_s: dict[str, float], within_s: float) -> None:
    """K4: nobody waits for a turn behind jobs that could not take it, for they wait for another job."""
    behind = job.wait is not None and job.wait.kind is WaitKind.TURN and job.wait.reason.startswith("others wait") and not job.ended
    able = any(not one.ended and not one.occupies and not one.awaits_another for one in jobs.values() if one.job_id != job.job_id)
    if not behind or able:
        since_s.pop(job.job_id, None)
    elif world.scheduler.now - max(since_s.setdefault(job.job_id, world.scheduler.now), world.scenario.healed_s) > within_s:
        world.fail("K4", f"{job.job_id} waits for a turn that nobody else could take")
