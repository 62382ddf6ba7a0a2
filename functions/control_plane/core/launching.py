"""What a launch call's answer leads to: an attempt, a wait, or the end of the job. Each class of refusal has its own answer."""

from datetime import datetime, timedelta
from typing import assert_never

from control_plane.core import placement
from control_plane.core.actions import Action, LookAgain, Terminate, WriteTicket
from control_plane.core.closing import end, owe
from control_plane.core.events import InstanceSight, LaunchedInstance, LaunchRefused, LaunchSucceeded, Looked
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Attempt, LaunchPlan, Market, Pool
from control_plane.core.state import QUEUED, Job, JobState, NoticeKind, PoolFailure, Wait, WaitKind, moved
from jobspec import tags
from jobspec.instances import GPU_INSTANCES

#: A quota is a person's matter: ask again this often, so that a raised quota starts the job.
QUOTA_WAIT_S = 1800
THROTTLE_WAIT_S = 60
#: Unknown refusals in a row before the job is given up.
MAX_UNKNOWN_REFUSALS = 5
MAX_POOL_FAILURES = 100


def launched(job: Job, event: LaunchSucceeded, now: datetime) -> tuple[Job, list[Action]]:
    """The first instance becomes the attempt; an instance too many, or one that comes too late, is ended at once."""
    actions: list[Action] = []
    for instance in event.instances:
        if job.attempt_of(instance.instance_id) is not None:
            continue
        expected = job.plan is not None and job.plan.client_token == event.plan.client_token
        if not expected:
            actions.append(Terminate(instance.instance_id, "started by a launch call that is not the job's any more"))
            continue
        job = started(job, event.plan, instance, now)
        if job.ended or job.ending is not None:
            actions.append(Terminate(instance.instance_id, f"the job is over: {job.reason}"))
            continue
        job = moved(
            job,
            JobState.LAUNCHED,
            f"attempt {event.plan.attempt}: {instance.instance_id} ({instance.pool.instance_type}, {instance.pool.zone}, {event.plan.market})",
            now,
        )
        if event.plan.attempt > 1 and not works(job, but=instance.instance_id):
            job = owe(job, NoticeKind.RELAUNCHED, now, attempt=event.plan.attempt)
        actions.append(WriteTicket(instance.instance_id))
    return job, actions


def adopted(job: Job, look: Looked, now: datetime) -> tuple[Job, list[Action]]:
    """Finds the instances of a launch call whose answer was lost: they carry the plan's client token as a tag."""
    if job.plan is None or look.instances is None:
        return job, []
    found = instances_of_plan(job, job.plan, look.instances)
    return launched(job, LaunchSucceeded(job.plan, found), now) if found else (job, [])


def refused(job: Job, event: LaunchRefused, now: datetime) -> tuple[Job, list[Action]]:
    """Nothing was started. Each class of refusal has its own answer."""
    if job.plan is None or job.plan.client_token != event.plan.client_token:
        return job, []
    job = pools_failed(job, event, now).model_copy(update={"plan": None, "tries": job.tries + 1})
    if job.ended or job.ending is not None:
        return job, []
    if works(job):
        # A cheaper instance was asked for beside the one that works: no pool has one, or none may be asked for a while.
        return all_pools_failed(job, event.plan, now), []
    match event.kind:
        case RefusalKind.CONFIGURATION:
            return end(job, JobState.FAILED, f"EC2 refused the launch: {event.message}. Check the stack with its owner, then put the manifest again.", now), []
        case RefusalKind.QUOTA:
            job = wait(job, WaitKind.QUOTA, event.message, now, QUOTA_WAIT_S)
            job = owe(job, NoticeKind.QUOTA, now)
        case RefusalKind.CAPACITY:
            job = wait(job, WaitKind.CAPACITY, event.message, now)
            job = owe(job, NoticeKind.WAITING, now)
        case RefusalKind.THROTTLE:
            job = wait(job, WaitKind.THROTTLE, event.message, now, THROTTLE_WAIT_S)
        case RefusalKind.TOKEN_SPENT:
            job = wait(job, WaitKind.UNKNOWN, event.message, now, 0)
        case RefusalKind.UNKNOWN:
            job = wait(job, WaitKind.UNKNOWN, event.message, now)
            if job.wait is not None and job.wait.times >= MAX_UNKNOWN_REFUSALS:
                return end(job, JobState.FAILED, f"EC2 refused {job.wait.times} launches in a row: {event.message}", now), []
        case _:
            assert_never(event.kind)
    if event.kind in (RefusalKind.CAPACITY, RefusalKind.QUOTA) and _may_fall_back(job, event):
        job = wait(job, WaitKind.CAPACITY, f"no spot in any pool, on-demand next: {event.message}", now, 0)
    assert job.wait is not None
    return job, [LookAgain()] if job.wait.until <= now or (event.plan.market is Market.SPOT and placement.may_press(job)) else []


def _may_fall_back(job: Job, event: LaunchRefused) -> bool:
    """At once: without a deadline nobody said that there is time to wait. With one, the next look weighs it."""
    return job.manifest is not None and job.manifest.compute.market == "cheapest" and job.manifest.limits.deadline is None and event.plan.market == "spot"


def works(job: Job, but: str = "") -> bool:
    """An instance does the job's work."""
    return any(attempt.serves and attempt.instance_id != but for attempt in job.attempts)


def wait(job: Job, kind: WaitKind, reason: str, now: datetime, seconds: int | None = None) -> Job:
    before = job.wait if job.wait is not None and job.wait.kind is kind else None
    times = before.times + 1 if before else 1
    since = _without_instance_since(job.wait, now)
    until = now + timedelta(seconds=placement.wait_s(times) if seconds is None else seconds)
    job = job.model_copy(update={"wait": Wait(kind=kind, reason=reason[:500], since=since, noted_at=now, until=until, times=times)})
    return moved(job, JobState.WAITING, f"{kind}: {reason}", now)


def _without_instance_since(wait: Wait | None, now: datetime) -> datetime:
    """From when max_wait counts: it is for capacity, so the time in the queue or under a hold moves it on."""
    if wait is None:
        return now
    return wait.since + (now - wait.noted_at) if wait.kind in QUEUED and wait.noted_at is not None else wait.since


# --- what is put on record ------------------------------------------------------------------------------------------


def started(job: Job, plan: LaunchPlan, instance: LaunchedInstance, now: datetime) -> Job:
    """The job with the plan answered and the instance on record."""
    price = GPU_INSTANCES[instance.pool.instance_type].on_demand_usd_per_h
    attempt = Attempt(
        plan=plan,
        instance_id=instance.instance_id,
        instance_type=instance.pool.instance_type,
        zone=instance.pool.zone,
        usd_per_h=min(instance.usd_per_h, price) if plan.market is Market.SPOT else price,
        on_demand_usd_per_h=price,
        launched_at=now,
    )
    return job.model_copy(update={"plan": None, "tries": 0, "wait": None, "attempts": (*job.attempts, attempt)})


def instances_of_plan(job: Job, plan: LaunchPlan, instances: tuple[InstanceSight, ...]) -> tuple[LaunchedInstance, ...]:
    """Instances that carry the plan's client token and are on nobody's record yet; their price is taken as on-demand's."""
    return tuple(
        LaunchedInstance(
            sight.instance_id,
            Pool(instance_type=sight.instance_type, zone=sight.zone, subnet_id=""),
            GPU_INSTANCES[sight.instance_type].on_demand_usd_per_h,
        )
        for sight in instances
        if sight.tags.get(tags.LAUNCH) == plan.client_token and job.attempt_of(sight.instance_id) is None and sight.instance_type in GPU_INSTANCES
    )


def pools_failed(job: Job, event: LaunchRefused, now: datetime) -> Job:
    # A quota is the market's, so every pool of the plan shares it.
    return _refused_by(job, event.plan.pools if event.kind is RefusalKind.QUOTA else event.pools, event.plan.market, now)


def all_pools_failed(job: Job, plan: LaunchPlan, now: datetime) -> Job:
    """Notes every pool of a plan as one that refused, whatever EC2 said: none is asked again for some minutes."""
    return _refused_by(job, plan.pools, plan.market, now)


def _refused_by(job: Job, pools: tuple[Pool, ...], market: Market, now: datetime) -> Job:
    failures = [PoolFailure(instance_type=p.instance_type, zone=p.zone, market=market, at=now) for p in pools]
    return job.model_copy(update={"pool_failures": (*job.pool_failures, *failures)[-MAX_POOL_FAILURES:]}) if failures else job
