"""What a launch call's answer leads to: an attempt, a wait, or the end of the job. Each class of refusal has its own answer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

from control_plane.core import placement
from control_plane.core.actions import Action, LookAgain, Terminate, WriteTicket
from control_plane.core.closing import end, owe
from control_plane.core.events import InstanceSight, LaunchedInstance, LaunchRefused, LaunchSucceeded, Looked
from control_plane.core.failures import RefusalKind
from control_plane.core.records import Attempt, Instance, LaunchPlan, Market, Pool
from control_plane.core.state import QUEUED, Job, JobState, NoticeKind, PoolFailure, Wait, WaitKind, moved
from jobspec import on_demand, tags
from jobspec.instances import GPU_INSTANCES
from jobspec.regions import region_of

#: A quota is a person's matter: ask again this often, so that a raised quota starts the job.
QUOTA_WAIT_S = 1800
THROTTLE_WAIT_S = 60
#: Unknown refusals in a row before the job is given up.
MAX_UNKNOWN_REFUSALS = 5
#: Refusals that say nothing of another region: quotas and templates are each region's own.
MOVES_ON = frozenset({RefusalKind.CAPACITY, RefusalKind.QUOTA, RefusalKind.CONFIGURATION})
MAX_POOL_FAILURES = 300


def launched(job: Job, event: LaunchSucceeded, now: datetime) -> tuple[Job, list[Action]]:
    """What was started becomes the attempt, all of it or none; an instance too many, or one that comes too late, is ended at once."""
    plan = event.plan
    fresh = [one for one in event.instances if job.attempt_of(one.instance_id) is None]
    if not fresh or job.plan is None or job.plan.client_token != plan.client_token:
        return job, [Terminate(one.instance_id, "started by a launch call that is not the job's any more", one.pool.zone) for one in fresh]
    # Of one pool, as was asked for: its instances are near each other, and cost the same.
    gang = [one for one in fresh if _place(one) == _place(fresh[0])][: plan.nodes]
    if len(gang) < plan.nodes:
        return _too_few(job, plan, fresh, now)
    beyond: list[Action] = [
        Terminate(one.instance_id, "started by a launch call that is not the job's any more", one.pool.zone) for one in fresh if one not in gang
    ]
    leader, members = gang[0], ", ".join(one.instance_id for one in gang)
    job = started(job, plan, gang, now)
    if job.ended or job.ending is not None:
        return job, [*(Terminate(one.instance_id, f"the job is over: {job.reason}", one.pool.zone) for one in gang), *beyond]
    job = moved(job, JobState.LAUNCHED, f"attempt {plan.attempt}: {members} ({leader.pool.instance_type}, {leader.pool.zone}, {plan.market})", now)
    if plan.attempt > 1 and not works(job, but=leader.instance_id):
        job = owe(job, NoticeKind.RELAUNCHED, now, attempt=plan.attempt)
    # A gang's tickets name the addresses of all, which only another look shows.
    begin: Action = WriteTicket(leader.instance_id) if plan.nodes == 1 else LookAgain()
    return job, [begin, *beyond]


def _place(instance: LaunchedInstance) -> tuple[str, str]:
    return instance.pool.instance_type, instance.pool.zone


def _too_few(job: Job, plan: LaunchPlan, started: list[LaunchedInstance], now: datetime) -> tuple[Job, list[Action]]:
    """A part of a gang cannot train: what was started is ended, and the launch has failed as if its pool had had nothing."""
    message = f"UnfulfillableCapacity: EC2 started {len(started)} of {plan.nodes} instances, or not all in one pool"
    pools = tuple({_place(one): one.pool for one in started}.values())
    job, then = refused(job, LaunchRefused(plan, RefusalKind.CAPACITY, message, pools), now)
    return job, [*(Terminate(one.instance_id, "its gang was not started whole", one.pool.zone) for one in started), *then]


def adopted(job: Job, look: Looked, now: datetime) -> tuple[Job, list[Action]]:
    """Finds the instances of a launch call whose answer was lost: they carry the plan's client token as a tag.

    A part of a gang proves nothing: EC2 may not show all of them yet. The call is repeated, and its answer names them.
    """
    if job.plan is None or look.instances is None:
        return job, []
    found = instances_of_plan(job, job.plan, look.instances)
    return launched(job, LaunchSucceeded(job.plan, found), now) if len(found) >= job.plan.nodes else (job, [])


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
    if event.plan.elsewhere and event.kind in MOVES_ON:
        # Every pool of the plan is noted, so that the next look asks the other regions.
        job = wait(all_pools_failed(job, event.plan, now), WaitKind.CAPACITY, f"nothing in {event.plan.region}, another region next: {event.message}", now, 0)
        return owe(job, NoticeKind.QUOTA, now) if event.kind is RefusalKind.QUOTA else job, [LookAgain()]
    job = _after_refusal(job, event, now)
    if job.ended:
        return job, []
    if event.kind in (RefusalKind.CAPACITY, RefusalKind.QUOTA) and _may_fall_back(job, event):
        job = wait(job, WaitKind.CAPACITY, f"no spot in any pool, on-demand next: {event.message}", now, 0)
    assert job.wait is not None
    return job, [LookAgain()] if job.wait.until <= now or (event.plan.market is Market.SPOT and placement.may_press(job)) else []


def _after_refusal(job: Job, event: LaunchRefused, now: datetime) -> Job:
    """The job as that class of refusal leaves it: it waits, or is given up."""
    match event.kind:
        case RefusalKind.CONFIGURATION if event.plan.egress is not None:
            # Another region's stack is at fault: no reason to give up a job that may yet run at home.
            return wait(all_pools_failed(job, event.plan, now), WaitKind.CAPACITY, f"{event.plan.region} refused the launch: {event.message}", now)
        case RefusalKind.CONFIGURATION:
            return end(job, JobState.FAILED, f"EC2 refused the launch: {event.message}. Check the stack with its owner, then put the manifest again.", now)
        case RefusalKind.QUOTA:
            return owe(wait(job, WaitKind.QUOTA, event.message, now, QUOTA_WAIT_S), NoticeKind.QUOTA, now)
        case RefusalKind.CAPACITY:
            return owe(wait(job, WaitKind.CAPACITY, event.message, now), NoticeKind.WAITING, now)
        case RefusalKind.THROTTLE:
            return wait(job, WaitKind.THROTTLE, event.message, now, THROTTLE_WAIT_S)
        case RefusalKind.TOKEN_SPENT:
            return wait(job, WaitKind.UNKNOWN, event.message, now, 0)
        case RefusalKind.UNKNOWN:
            job = wait(job, WaitKind.UNKNOWN, event.message, now)
            if job.wait is not None and job.wait.times >= MAX_UNKNOWN_REFUSALS:
                return end(job, JobState.FAILED, f"EC2 refused {job.wait.times} launches in a row: {event.message}", now)
            return job
        case _:
            assert_never(event.kind)


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


def queued(job: Job, kind: WaitKind, reason: str, now: datetime) -> Job:
    """The job under a hold, or waiting for its turn. Noted once: a thousand jobs in the queue are no thousand writes a minute."""
    noted = job.wait is not None and (job.wait.kind, job.wait.reason) == (kind, reason[:500])
    return job if noted else wait(job, kind, reason, now, 0)


def _without_instance_since(wait: Wait | None, now: datetime) -> datetime:
    """From when max_wait counts: it is for capacity, so the time in the queue or under a hold moves it on."""
    if wait is None:
        return now
    return wait.since + (now - wait.noted_at) if wait.kind in QUEUED and wait.noted_at is not None else wait.since


# --- what is put on record ------------------------------------------------------------------------------------------


def started(job: Job, plan: LaunchPlan, instances: Sequence[LaunchedInstance], now: datetime) -> Job:
    """The job with the plan answered and its instances on record, the first as their leader."""
    leader, *others = instances
    price = on_demand.usd_per_h(leader.pool.instance_type, region_of(leader.pool.zone))
    attempt = Attempt(
        plan=plan,
        instance_id=leader.instance_id,
        others=tuple(Instance(instance_id=one.instance_id) for one in others),
        instance_type=leader.pool.instance_type,
        zone=leader.pool.zone,
        usd_per_h=min(leader.usd_per_h, price) if plan.market is Market.SPOT else price,
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
            on_demand.usd_per_h(sight.instance_type, region_of(sight.zone)),
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
