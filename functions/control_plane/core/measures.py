"""The project in numbers, for dashboard and alarms: what a saved change adds up to, and how things stand at a tick.

Counts come from the change itself: a version of a job is saved by one driver only, whatever woke it, so each is counted once.
How things stand is derived from what the tick has in its hands anyway; nothing is read for it. Names are CloudWatch's
metric names, written out here and nowhere else; a test holds template.yaml to them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from control_plane.core import gpus, launching
from control_plane.core.events import InstanceSight, Rules
from control_plane.core.records import Attempt, AttemptEnd, Instance
from control_plane.core.state import Job, JobState, WaitKind
from jobspec import on_demand, tags
from jobspec.instances import GPU_INSTANCES
from jobspec.regions import region_of

#: Under which name each end is counted.
ENDS = {
    JobState.SUCCEEDED: "JobsSucceeded",
    JobState.REJECTED: "JobsRejected",
    JobState.FAILED: "JobsFailed",
    JobState.CANCELLED: "JobsCancelled",
    JobState.STOPPED_DEADLINE: "JobsStopped",
    JobState.STOPPED_BUDGET: "JobsStopped",
}


def happened(before: Job | None, after: Job) -> dict[str, int]:
    """What one saved change adds to the counts; ``before`` is None for a job that is new. Most changes add nothing."""
    known = {attempt.instance_id: attempt for attempt in before.attempts} if before is not None else {}
    counts = Counter(
        {
            "AttemptsStarted": len(after.attempts) - len(known),
            "Interruptions": sum(_interrupted(attempt) and not _interrupted(known.get(attempt.instance_id)) for attempt in after.attempts),
        }
    )
    if after.ended and not after.is_parent and (before is None or not before.ended):
        counts[ENDS[after.state]] += 1
    return {name: count for name, count in counts.items() if count}


def _interrupted(attempt: Attempt | None) -> bool:
    """Warned, or known by its end to have been taken back without a warning that reached us."""
    return attempt is not None and (attempt.first_warned_at is not None or attempt.end is AttemptEnd.INTERRUPTED)


def by_state(jobs: Iterable[Job]) -> dict[str, int]:
    """How many of the open jobs stand where; a sweep is none itself. Ended ones that still have an instance or an e-mail to see off are ending."""
    counts = Counter("ENDING" if job.ended else job.state.value for job in jobs if not job.is_parent)
    return {
        "JobsWaiting": counts["WAITING"] + counts["ACCEPTED"],
        "JobsStarting": counts["PLANNED"] + counts["LAUNCHED"],
        "JobsRunning": counts["RUNNING"],
        "JobsEnding": counts["ENDING"],
    }


def launch_wait(jobs: Iterable[Job], now: datetime) -> dict[str, float]:
    """LaunchWaitSeconds: the longest that a job has asked EC2 for an instance in vain, throttled or without capacity at each try; left out where none does.

    Who waits for a turn, for another job or for a person (a hold, a quota, of which there is a mail) asks for none.
    """
    waits = [(now - since).total_seconds() for job in jobs if (since := _asks_since(job)) is not None]
    return {"LaunchWaitSeconds": max(waits)} if waits else {}


def _asks_since(job: Job) -> datetime | None:
    if job.ended or job.ending is not None or launching.works(job):
        return None
    if job.wait is not None and job.wait.kind in (WaitKind.CAPACITY, WaitKind.THROTTLE, WaitKind.UNKNOWN):
        return job.wait.since
    # A throttled launch is no refusal: its plan stays on record, and is called again.
    return job.plan.planned_at if job.plan is not None else None


def of_instances(instances: Iterable[InstanceSight], jobs: Mapping[str, Job | None], rules: Rules, now: datetime) -> dict[str, float]:
    """How the live instances stand. ``jobs``: by job tag, as far as they could be read; of the others only the price counts.

    SpendUsdPerHour: dollars an hour; an instance on no record that was read costs what on-demand costs. StaleHeartbeats: instances
    of open attempts, not under notice, of which nothing was heard for longer than the rules allow. GpuPercent: mean over all GPUs in
    training that tell of themselves, and left out where none does.
    """
    live = [sight for sight in instances if sight.state in ("pending", "running")]
    known = [
        (job, *found) for sight in live if (job := jobs.get(sight.tags.get(tags.JOB, ""))) is not None and (found := job.found(sight.instance_id)) is not None
    ]
    prices = {instance.instance_id: attempt.usd_per_h for _, attempt, instance in known}
    live_attempts = {attempt.instance_id: (job, attempt) for job, attempt, _ in known}.values()
    use = [gpu.percent for _, attempt in live_attempts for gpu in gpus.in_use(attempt)]
    measured: dict[str, float] = {
        "LiveInstances": len(live),
        "SpendUsdPerHour": round(sum(prices.get(sight.instance_id, _on_demand_usd_per_h(sight)) for sight in live), 4),
        "StaleHeartbeats": sum(_is_silent(attempt, instance, rules, now) for _, attempt, instance in known),
        "IdleGpus": sum(len(gpus.idle(job, attempt)) for job, attempt in live_attempts),
    }
    return measured | ({"GpuPercent": round(sum(use) / len(use), 2)} if use else {})


def _on_demand_usd_per_h(sight: InstanceSight) -> float:
    return on_demand.usd_per_h(sight.instance_type, region_of(sight.zone)) if sight.instance_type in GPU_INSTANCES else 0.0


def _is_silent(attempt: Attempt, instance: Instance, rules: Rules, now: datetime) -> bool:
    if not attempt.is_open or instance.warned_at is not None:
        return False
    heard_at, allowed_s = (attempt.launched_at, rules.boot_s) if instance.heartbeat_seen_at is None else (instance.heartbeat_seen_at, rules.stale_s)
    return now - heard_at >= timedelta(seconds=allowed_s)
