"""The reconcile tick: what makes everything right in the end, whatever events did or did not come.

Drives every job that is not settled, then ends the project's instances that no job names.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.core import ledger, measures
from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert
from control_plane.core.events import InstanceSight
from control_plane.core.state import Job
from control_plane.core.strays import Stray, find_strays, standing
from control_plane.driver import ActionsFailed, Driver
from control_plane.ports import Bus, SpendStore
from jobspec import tags

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TickResult:
    """What one tick did and found. ``counts``: by metric name, for its log line and the metrics."""

    counts: dict[str, float] = field(default_factory=lambda: {"JobsDriven": 0, "JobsLeft": 0, "StraysEnded": 0})
    failures: list[str] = field(default_factory=list)


def tick(driver: Driver, bus: Bus, spend: SpendStore, *, stray_grace_s: float, monthly_cap_usd: float, has_time: Callable[[], bool]) -> TickResult:
    """One tick. One job's failure does not keep the next from being driven; the caller raises for the failures at the end."""
    result = TickResult()
    instances = driver.fleet.instances()
    by_job: dict[str, list[InstanceSight]] = defaultdict(list)
    for sight in instances:
        by_job[sight.tags.get(tags.JOB, "")].append(sight)
    seen: list[Job] = []
    for job_id in driver.store.unsettled():
        if not has_time():
            # Left for the next tick, because this one's time is over.
            result.counts["JobsLeft"] += 1
            continue
        try:
            seen += _drive(driver, bus, job_id, tuple(by_job.get(job_id, ())))
            result.counts["JobsDriven"] += 1
        except Exception as error:
            logger.warning("job not driven", extra={"job_id": job_id}, exc_info=True)
            result.failures.append(f"{job_id}: {type(error).__name__}: {str(error)[:200]}")
            seen += [error.job] if isinstance(error, ActionsFailed) and error.job is not None else []
    result.counts |= measures.by_state(seen)
    if seen:
        _watch_the_month(driver, bus, spend, seen, monthly_cap_usd, result)
    _sweep(driver, instances, stray_grace_s, result)
    return result


def _watch_the_month(driver: Driver, bus: Bus, spend: SpendStore, jobs: list[Job], cap_usd: float, result: TickResult) -> None:
    """The project's cap by its own ledger: told of once a month, over the bus, like every other budget.

    The settled jobs' sum is read after the others were driven: whoever was settled meanwhile is in it. Jobs that this tick had no time
    for are not: the next one has.
    """
    month = ledger.month_of(driver.clock())
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


def _drive(driver: Driver, bus: Bus, job_id: str, instances: tuple[InstanceSight, ...]) -> list[Job]:
    """The job as it now is; nothing where no such job is known."""
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
    return [job] if job is not None else []


def _sweep(driver: Driver, instances: tuple[InstanceSight, ...], grace_s: float, result: TickResult) -> None:
    """The jobs are read after the instances were: whoever launched in between is on record by now.

    A stray is marked by one tick and ended by a later one: one wrong look ends nothing.
    """
    jobs: dict[str, Job | None] = {"": None}
    for job_id in sorted({sight.tags.get(tags.JOB, "") for sight in standing(driver.project, instances)} - {""}):
        try:
            jobs[job_id] = driver.store.load(job_id)
        except Exception as error:
            logger.warning("job not read for the sweep", extra={"job_id": job_id}, exc_info=True)
            result.failures.append(f"sweep, {job_id}: {type(error).__name__}: {str(error)[:200]}")
    # Before anything is ended: how things stand is told also where ending fails.
    result.counts |= measures.of_instances(instances, jobs, driver.watcher.rules, driver.clock())
    for stray in find_strays(driver.project, instances, jobs, grace_s, driver.clock()):
        try:
            result.counts["StraysEnded"] += _treated(driver, stray)
        except Exception as error:
            logger.warning("stray not treated", extra={"instance_id": stray.instance_id, "verdict": stray.verdict}, exc_info=True)
            result.failures.append(f"{stray.instance_id}: {type(error).__name__}: {str(error)[:200]}")


def _treated(driver: Driver, stray: Stray) -> bool:
    """Make the call that the verdict asks for. True: the instance was asked to end."""
    state = None
    match stray.verdict:
        case "mark":
            driver.fleet.mark_stray(stray.instance_id, driver.clock())
        case "clear":
            driver.fleet.mark_stray(stray.instance_id, None)
        case "end":
            state = driver.fleet.terminate(stray.instance_id)
    logger.warning("stray", extra={"instance_id": stray.instance_id, "verdict": stray.verdict, "reason": stray.reason, "state": state})
    return stray.verdict == "end"
