"""The reconcile tick: what makes everything right in the end, whatever events did or did not come.

Drives every job that is not settled, then ends the project's instances that no job names.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.core import ledger, measures
from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert
from control_plane.core.events import InstanceSight
from control_plane.core.months import month_of
from control_plane.core.state import Job
from control_plane.core.strays import Stray, find_strays, standing
from control_plane.driver import ActionsFailed, Driver
from control_plane.ports import Bus, Each, Fleet, Pause, SpendStore
from jobspec import tags

logger = logging.getLogger(__name__)


#: Ticks after which each of many jobs has stood first: where one tick has not time for all, no job waits behind the same others for ever.
ROUND = 16


@dataclass(slots=True)
class TickResult:
    """What one tick did and found. ``counts``: by metric name, for its log line and the metrics."""

    counts: dict[str, float] = field(default_factory=lambda: {"JobsDriven": 0, "JobsLeft": 0, "StraysEnded": 0})
    failures: list[str] = field(default_factory=list)


#: Seconds from a tick's start until which it goes on launching what EC2 had no token for; the next tick then takes over.
LAUNCHES_FOR_S = 50
#: EC2 gives a handful of launches a second back (EC2 guide, "Request throttling"): after this there are some.
THROTTLED_WAIT_S = 1.0

#: What each region's fleet shows.
Seen = list[tuple[Fleet, tuple[InstanceSight, ...]]]


@dataclass(frozen=True, slots=True)
class Driven:
    """What became of one job: how it now is where that is known, what failed, or that there was no time for it."""

    job: Job | None = None
    failure: str = ""
    left: bool = False


def tick(
    driver: Driver,
    bus: Bus,
    spend: SpendStore,
    each: Each,
    *,
    stray_grace_s: float,
    monthly_cap_usd: float,
    has_time: Callable[[], bool],
    pause: Pause | None = None,
) -> TickResult:
    """One tick. One job's failure does not keep the next from being driven; the caller raises for the failures at the end.

    ``pause`` waits some seconds; without it what was throttled waits for the next tick.
    """
    result = TickResult()
    began = driver.clock()
    seen_in = _seen(driver, result)
    instances = tuple(sight for _, sights in seen_in for sight in sights)
    by_job: dict[str, list[InstanceSight]] = defaultdict(list)
    for sight in instances:
        by_job[sight.tags.get(tags.JOB, "")].append(sight)
    # Where a region is missing, each job looks for its own instances, in its own regions.
    whole = not result.failures

    def one(job_id: str) -> Driven:
        # Without time it is left for the next tick.
        return _driven(driver, bus, job_id, tuple(by_job.get(job_id, ())) if whole else None) if has_time() else Driven(left=True)

    seen: list[Job] = []
    throttled: list[Job] = []
    for driven in each(one, _in_turn(list(driver.store.unsettled()), by_job.keys(), driver.clock())):
        result.counts["JobsLeft"] += driven.left
        result.counts["JobsDriven"] += not driven.left and not driven.failure
        result.failures += [driven.failure] if driven.failure else []
        seen += [driven.job] if driven.job is not None else []
        throttled += [driven.job] if driven.job is not None and driven.job.plan is not None and not driven.failure else []
    if pause is not None and throttled:
        later = _launched_on(driver, bus, throttled, pause, lambda: has_time() and (driver.clock() - began).total_seconds() < LAUNCHES_FOR_S, result)
        seen = [later.get(job.job_id, job) for job in seen]
    result.counts |= measures.by_state(seen) | measures.launch_wait(seen, driver.clock())
    if seen:
        _watch_the_month(driver, bus, spend, seen, monthly_cap_usd, result)
    _sweep(driver, each, seen_in, {job.job_id: job for job in seen}, stray_grace_s, result)
    return result


def _in_turn(job_ids: list[str], with_instances: Collection[str], now: datetime) -> list[str]:
    """Whose instances cost money, and have limits to be held to, come before who only waits: at most as many as run at a time, they are in every tick."""
    costly = [job_id for job_id in job_ids if job_id in with_instances]
    return _begun_further(costly, now) + _begun_further([job_id for job_id in job_ids if job_id not in with_instances], now)


def _begun_further(job_ids: list[str], now: datetime) -> list[str]:
    """Begun a sixteenth further at each minute. The clock is all the state this needs; few jobs keep their order."""
    first = int(now.timestamp()) // 60 * (len(job_ids) // ROUND) % max(len(job_ids), 1)
    return job_ids[first:] + job_ids[:first]


def _driven(driver: Driver, bus: Bus, job_id: str, instances: tuple[InstanceSight, ...] | None) -> Driven:
    try:
        return Driven(_drive(driver, bus, job_id, instances))
    except Exception as error:
        logger.warning("job not driven", extra={"job_id": job_id}, exc_info=True)
        return Driven(error.job if isinstance(error, ActionsFailed) else None, f"{job_id}: {type(error).__name__}: {str(error)[:200]}")


def _launched_on(driver: Driver, bus: Bus, throttled: list[Job], pause: Pause, has_time: Callable[[], bool], result: TickResult) -> dict[str, Job]:
    """Drive those whose launch was throttled again, by id as they are then: one after the other and first come first, at the pace at which EC2 gives on."""
    after: dict[str, Job] = {}
    for job in sorted(throttled, key=lambda job: job.accepted_at):
        waits = True
        while waits and has_time():
            driven = _driven(driver, bus, job.job_id, None)
            result.failures += [driven.failure] if driven.failure else []
            if driven.job is not None:
                after[job.job_id] = driven.job
            waits = driven.job is not None and driven.job.plan is not None and not driven.failure
            if waits:
                pause(THROTTLED_WAIT_S)
    return after


def _seen(driver: Driver, result: TickResult) -> Seen:
    """What each region shows. Without the home region there is no tick; another that does not answer is a failure beside the others' work."""
    home, *peers = driver.fleets.parts()
    found: Seen = [(home, home.instances())]
    for peer in peers:
        try:
            found.append((peer, peer.instances()))
        except Exception as error:
            logger.warning("a region could not be looked through", exc_info=True)
            result.failures.append(f"a peer region: {type(error).__name__}: {str(error)[:200]}")
    return found


def _watch_the_month(driver: Driver, bus: Bus, spend: SpendStore, jobs: list[Job], cap_usd: float, result: TickResult) -> None:
    """The project's cap by its own ledger: told of once a month, over the bus, like every other budget.

    The settled jobs' sum is read after the others were driven: whoever was settled meanwhile is in it. Jobs that this tick had no time
    for are not: the next one has.
    """
    month = month_of(driver.clock())
    try:
        settled = spend.month(month)
        spent = settled.settled_usd + sum(ledger.by_month(job, driver.clock()).get(month, 0.0) for job in jobs if not job.settled)
        result.counts["SpendUsdThisMonth"] = round(spent, 4)
        if spent >= cap_usd and not settled.alerted:
            alert = BudgetAlert(
                project=driver.project, origin="project-ledger", budget_name=month, alert_type="ACTUAL", amount_usd=round(spent, 2), budgeted_usd=cap_usd
            )
            bus.put(source=SOURCE, detail_type=DETAIL_TYPE, detail=alert.model_dump())
    except Exception as error:
        logger.warning("the month's spend is not known", exc_info=True)
        result.failures.append(f"{month}: {type(error).__name__}: {str(error)[:200]}")


def _drive(driver: Driver, bus: Bus, job_id: str, instances: tuple[InstanceSight, ...] | None) -> Job | None:
    """The job as it now is; None where no such job is known."""
    job = driver.drive(job_id, instances=instances)
    now = driver.clock()
    if job is not None and ledger.budget_alert_due(job, now):
        assert job.manifest is not None
        alert = BudgetAlert(
            project=driver.project,
            origin="ledger",
            job_id=job_id,
            alert_type="ACTUAL",
            amount_usd=round(ledger.job_cost_usd(job, now), 4),
            budgeted_usd=job.manifest.limits.budget_usd,
        )
        bus.put(source=SOURCE, detail_type=DETAIL_TYPE, detail=alert.model_dump())
    return job


def _sweep(driver: Driver, each: Each, seen_in: Seen, seen: dict[str, Job], grace_s: float, result: TickResult) -> None:
    """Every job was read after the instances were, ``seen`` by being driven: whoever launched in between is on record by now.

    A stray is marked by one tick and ended by a later one: one wrong look ends nothing.
    """
    jobs: dict[str, Job | None] = {"": None, **seen}
    instances = tuple(sight for _, sights in seen_in for sight in sights)

    def load(job_id: str) -> str:
        try:
            jobs[job_id] = driver.store.load(job_id)
        except Exception as error:
            logger.warning("job not read for the sweep", extra={"job_id": job_id}, exc_info=True)
            return f"sweep, {job_id}: {type(error).__name__}: {str(error)[:200]}"
        return ""

    result.failures += filter(None, each(load, sorted({sight.tags.get(tags.JOB, "") for sight in standing(driver.project, instances)} - set(jobs))))
    # Before anything is ended: how things stand is told also where ending fails.
    result.counts |= measures.of_instances(instances, jobs, driver.watcher.rules, driver.clock())
    strays = [(fleet, stray) for fleet, sights in seen_in for stray in find_strays(driver.project, sights, jobs, grace_s, driver.clock())]
    for fleet, stray in strays:
        try:
            result.counts["StraysEnded"] += _treated(fleet, stray, driver.clock())
        except Exception as error:
            logger.warning("stray not treated", extra={"instance_id": stray.instance_id, "verdict": stray.verdict}, exc_info=True)
            result.failures.append(f"{stray.instance_id}: {type(error).__name__}: {str(error)[:200]}")


def _treated(fleet: Fleet, stray: Stray, now: datetime) -> bool:
    """Make the call that the verdict asks for. True: the instance was asked to end."""
    state = None
    match stray.verdict:
        case "mark":
            fleet.mark_stray(stray.instance_id, now)
        case "clear":
            fleet.mark_stray(stray.instance_id, None)
        case "end":
            state = fleet.terminate(stray.instance_id)
    logger.warning("stray", extra={"instance_id": stray.instance_id, "verdict": stray.verdict, "reason": stray.reason, "state": state})
    return stray.verdict == "end"
