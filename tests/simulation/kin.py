"""The promises about jobs that are related: K1 to K4 of those that follow another, S1 to S8 of sweeps, T1 to T4 of schedules.

Numbers as in docs/reliability.md.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from control_plane.core.chain import ABSENT_GRACE
from control_plane.core.records import AttemptEnd
from control_plane.core.state import Job, JobState, NoticeKind, WaitKind
from jobspec import keys
from jobspec.schedule import LEAST_APART, dated_name
from tests.simulation.box import loss_of

if TYPE_CHECKING:
    from tests.simulation.world import World

Jobs = dict[str, Job]
#: By how much a function's clock may be wrong.
SKEW = timedelta(seconds=10)
#: No look at a family takes longer until what it saw is written.
A_LOOK_S = 60.0


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
    able = any(not one.ended and not one.occupies and not one.awaits_another and not one.is_parent for one in jobs.values() if one.job_id != job.job_id)
    if not behind or able:
        since_s.pop(job.job_id, None)
    elif world.scheduler.now - max(since_s.setdefault(job.job_id, world.scheduler.now), world.scenario.healed_s) > within_s:
        world.fail("K4", f"{job.job_id} waits for a turn that nobody else could take")


def are_twins(one: Job, other: Job) -> bool:
    """Both came of one version of a manifest, and neither is a job of a sweep."""
    return one.manifest_ref == other.manifest_ref and one.parent is None and other.parent is None


def _children(jobs: Jobs, parent_id: str) -> list[Job]:
    return [one for one in jobs.values() if one.parent is not None and one.parent.job_id == parent_id]


def born_in_order(world: "World", jobs: Jobs, job: Job, is_new: bool) -> None:
    """S1 to S4 and S8, of a job of a sweep at its birth: its parent knows it, has not ended and is not cancelled, has place for it, and money."""
    if job.parent is None or not is_new:
        return
    parent, others = jobs.get(job.parent.job_id), _children(jobs, job.parent.job_id)
    if parent is None or job.job_id not in {child.job_id for child in parent.children}:
        world.fail("S1", f"{job.job_id} was created, and its parent's ledger does not know it")
        return
    withdrawn_s = world.checks.withdrawn_s.get(job.job_id, world.scheduler.now)
    if world.scheduler.now - withdrawn_s > A_LOOK_S:
        world.fail("S8", f"{job.job_id} was created {world.scheduler.now - withdrawn_s:.0f} s after it was cancelled")
    if parent.ended or parent.cancel_asked_at is not None:
        world.fail("S2", f"{job.job_id} was created when its sweep had ended or was cancelled: {parent.state}, {parent.reason}")
    if parent.is_schedule:
        put_in_time(world, jobs, parent, job)
        return
    assert parent.manifest is not None
    assert parent.manifest.sweep is not None
    at_work = [one.job_id for one in others if not one.ended or one.occupies]
    if len(at_work) >= parent.manifest.sweep.concurrency:
        world.fail("S3", f"{job.job_id} was created beside {', '.join(at_work)}; {parent.manifest.sweep.concurrency} may be at work")
    promised = sum(one.manifest.limits.budget_usd for one in [*others, job] if one.manifest is not None and (not one.ended or one.occupies or one is job))
    spent = sum(world.checks.spent_usd(one)[0] for one in others if one.ended and not one.occupies)
    late = sum(world.checks.spent_usd(one)[1] for one in others)
    if promised + spent > parent.manifest.sweep.budget_usd + late + 1e-6:
        world.fail("S4", f"with {job.job_id} the sweep may cost ${promised + spent:.3f}; its budget is ${parent.manifest.sweep.budget_usd:.3f}")


def ended_with_its_jobs(world: "World", jobs: Jobs, job: Job, has_ended: bool) -> None:
    """S5, S6: a sweep ends when each of its jobs has; SUCCEEDED means that all were started, and the best is the best."""
    if not job.is_parent or not has_ended:
        return
    if job.is_schedule:
        ended_with_its_times(world, job)
    children = _children(jobs, job.job_id)
    if left := [one.job_id for one in children if not one.ended]:
        world.fail("S5", f"{job.job_id} ended as {job.state} while {', '.join(left)} had not")
    assert job.manifest is not None
    if job.state is not JobState.SUCCEEDED or job.manifest.sweep is None or job.is_schedule:
        return
    if len(job.children) != job.manifest.sweep.size:
        world.fail("S6", f"{job.job_id} SUCCEEDED with {len(job.children)} of {job.manifest.sweep.size} jobs")
    losses = {one.name: loss_of(one.job_id) for one in children if one.state is JobState.SUCCEEDED}
    least = min(losses, key=lambda name: (losses[name], name), default="nobody")
    if f"{len(losses)} of {len(job.children)} jobs succeeded; the best is {least}:" not in job.reason:
        world.fail("S6", f"{job.job_id} says {job.reason!r}; {losses} succeeded")


def is_silent(jobs: Jobs, job: Job) -> bool:
    """A job of a sweep that asks for the sweep's own e-mails only."""
    parent = jobs[job.parent.job_id].manifest if job.parent is not None else None
    return parent is not None and parent.schedule is None and parent.sweep is not None and parent.sweep.mails == "sweep"


def quota_is_told(world: "World", jobs: Jobs, job: Job, within_s: float) -> None:
    """E1, of a silent job of a sweep: the sweep tells of the quota that it waits for."""
    if not is_silent(jobs, job) or job.ended or job.wait is None or job.wait.kind is not WaitKind.QUOTA:
        return
    assert job.parent is not None
    waits_s = world.scheduler.now - max(world.seconds(job.wait.noted_at or job.wait.since), world.scenario.healed_s)
    if waits_s > within_s and not any(notice.kind is NoticeKind.QUOTA for notice in jobs[job.parent.job_id].notices):
        world.fail("E1", f"{job.job_id} waits for a quota for {waits_s:.0f} s, and its sweep tells nobody")


def cancelled_soon(world: "World", jobs: Jobs, job: Job, within_s: float) -> None:
    """S7: once a sweep is cancelled its jobs end soon, though the manifest lies there again."""
    if not job.is_parent or job.cancel_asked_at is None:
        return
    since_s = world.scheduler.now - max(world.seconds(job.cancel_asked_at), world.scenario.healed_s)
    if since_s > within_s and (left := [one.job_id for one in _children(jobs, job.job_id) if not one.ended]):
        world.fail("S7", f"{job.job_id} was cancelled {since_s:.0f} s ago, and {', '.join(left)} goes on")


def is_withdrawn(job: Job, withdrawn_s: dict[str, float]) -> bool:
    """A user cancelled this very job, or the sweep that it is of and that a schedule has put."""
    return job.job_id in withdrawn_s or (job.parent is not None and job.parent.job_id in withdrawn_s)


def withdrawn_soon(world: "World", job: Job, withdrawn_s: dict[str, float], within_s: float) -> None:
    """S8: a job of a sweep or a schedule that is cancelled by itself ends soon, or is not created (``born_in_order``). No other is cancelled for it: C1."""
    if job.ended or job.job_id not in withdrawn_s:
        return
    since_s = world.scheduler.now - max(withdrawn_s[job.job_id], world.scenario.healed_s)
    if since_s > within_s:
        world.fail("S8", f"{job.job_id} was cancelled by itself {since_s:.0f} s ago, and goes on")


def within_the_sweeps_money(world: "World", jobs: Jobs, job: Job, spent_usd: Callable[[Job], tuple[float, float]]) -> None:
    """S4: all jobs together cost no more than the sweep's budget, and what each may pass its own limit by."""
    if not job.is_sweep or job.manifest is None or job.manifest.sweep is None:
        return
    sums = [spent_usd(one) for one in _children(jobs, job.job_id)]
    spent, allowance = sum(one for one, _ in sums), sum(other for _, other in sums)
    if spent > job.manifest.sweep.budget_usd + allowance:
        world.fail("S4", f"the jobs of {job.job_id} cost ${spent:.3f}, its budget is ${job.manifest.sweep.budget_usd:.3f}")


def put_in_time(world: "World", jobs: Jobs, schedule: Job, job: Job) -> None:
    """T1 to T3, of a job that a schedule puts: at one of its times that has just come, one job a time, and none beside another."""
    assert schedule.manifest is not None
    assert schedule.manifest.schedule is not None
    now = world.clock()
    times = {dated_name(schedule.name, at): at for at in schedule.manifest.schedule.passed(schedule.accepted_at, now + SKEW)}
    if job.name not in times or now - times[job.name] > LEAST_APART + SKEW:
        world.fail("T1", f"{job.job_id} was put at {now:%H:%M:%S}, which is no time of its schedule")
    others = [one for one in _children(jobs, schedule.job_id) if one.job_id != job.job_id]
    if any(one.name == job.name for one in others):
        world.fail("T2", f"{job.job_id} was put a second time")
    if busy := [one.job_id for one in others if not one.ended]:
        world.fail("T3", f"{job.job_id} was put while {', '.join(busy)} was at work")


def ended_with_its_times(world: "World", job: Job) -> None:
    """T4: a schedule ends by itself only after its last time, and each of its times has put a job, or its history says why not."""
    assert job.manifest is not None
    assert job.manifest.schedule is not None
    if job.state is not JobState.SUCCEEDED:
        return
    times = job.manifest.schedule.passed(job.accepted_at, world.clock() + LEAST_APART * 24)
    if times and times[-1] > world.clock() + SKEW:
        world.fail("T4", f"{job.job_id} ended before its last time, {times[-1]:%H:%M}")
    told = " ".join(line.reason for line in job.history)
    silent = [at for at in times if dated_name(job.name, at) not in told and f"{at:%H:%M} was" not in told]
    if silent and "passed unseen" not in told and "was changed" not in told:
        world.fail("T4", f"{job.job_id} says nothing of {silent[0]:%H:%M}")
