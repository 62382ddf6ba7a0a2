"""The reconcile tick: what makes everything right in the end, whatever events did or did not come.

Drives every job that is not settled, then ends the project's instances that no job names.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.core import ledger
from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert
from control_plane.core.events import InstanceSight
from control_plane.core.state import Job
from control_plane.core.strays import find_strays
from control_plane.driver import Driver
from control_plane.ports import Bus
from jobspec import tags

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TickResult:
    """What one tick did, for its log line and metrics."""

    driven: int = 0
    live_instances: int = 0
    strays_ended: int = 0
    #: Jobs left for the next tick because this one's time was over.
    left: int = 0
    failures: list[str] = field(default_factory=list)


def tick(driver: Driver, bus: Bus, *, stray_grace_s: float, has_time: Callable[[], bool]) -> TickResult:
    """One tick. One job's failure does not keep the next from being driven; the caller raises for the failures at the end."""
    result = TickResult()
    instances = driver.fleet.instances()
    by_job: dict[str, list[InstanceSight]] = defaultdict(list)
    for sight in instances:
        by_job[sight.tags.get(tags.JOB, "")].append(sight)
    result.live_instances = sum(sight.state in ("pending", "running") for sight in instances)
    for job_id in driver.store.unsettled():
        if not has_time():
            result.left += 1
            continue
        try:
            _drive(driver, bus, job_id, tuple(by_job.get(job_id, ())))
            result.driven += 1
        except Exception as error:
            logger.warning("job not driven", extra={"job_id": job_id}, exc_info=True)
            result.failures.append(f"{job_id}: {type(error).__name__}: {str(error)[:200]}")
    _sweep(driver, instances, stray_grace_s, result)
    return result


def _drive(driver: Driver, bus: Bus, job_id: str, instances: tuple[InstanceSight, ...]) -> None:
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


def _sweep(driver: Driver, instances: tuple[InstanceSight, ...], grace_s: float, result: TickResult) -> None:
    """The jobs are read after the instances were: whoever launched in between is on record by now.

    A stray is marked by one tick and ended by a later one: one wrong look ends nothing.
    """
    jobs: dict[str, Job | None] = {"": None}
    for job_id in sorted({sight.tags.get(tags.JOB, "") for sight in instances} - {""}):
        try:
            jobs[job_id] = driver.store.load(job_id)
        except Exception as error:
            logger.warning("job not read for the sweep", extra={"job_id": job_id}, exc_info=True)
            result.failures.append(f"sweep, {job_id}: {type(error).__name__}: {str(error)[:200]}")
    for stray in find_strays(driver.project, instances, jobs, grace_s, driver.clock()):
        try:
            if not stray.ends:
                driver.fleet.mark_stray(stray.instance_id, driver.clock())
                logger.warning("stray marked", extra={"instance_id": stray.instance_id, "reason": stray.reason})
                continue
            state = driver.fleet.terminate(stray.instance_id)
            logger.warning("stray", extra={"instance_id": stray.instance_id, "reason": stray.reason, "state": state})
            result.strays_ended += 1
        except Exception as error:
            logger.warning("stray not ended", extra={"instance_id": stray.instance_id}, exc_info=True)
            result.failures.append(f"{stray.instance_id}: {type(error).__name__}: {str(error)[:200]}")
