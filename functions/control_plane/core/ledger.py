"""Money and time, derived from the attempts: estimates from launch times and prices, as the receipt says.

Billing rules (EC2 guide, "Billing for interrupted Spot Instances"): per second; a spot instance that EC2 itself
interrupts in its first hour is free (Linux). Volumes, transfer and storage are not counted here.
"""

from datetime import datetime, timedelta

from control_plane.core.state import Attempt, Job, Market, NoticeKind
from jobspec.status import Receipt

FREE_IF_INTERRUPTED_WITHIN = timedelta(hours=1)
#: How far ahead money is watched: the next tick, and the last save that a stop allows.
WATCH_AHEAD_S = 180.0


def runtime_s(attempt: Attempt, now: datetime) -> float:
    """Seconds from launch to the end of billing, or to now."""
    return max(0.0, ((attempt.gone_at or now) - attempt.launched_at).total_seconds())


def cost_usd(attempt: Attempt, now: datetime) -> float:
    """The attempt's estimated instance cost in dollars, the first-hour rule applied once EC2 has ended it."""
    free = (
        attempt.market is Market.SPOT
        and attempt.ended_by == "ec2"
        and attempt.gone_at is not None
        and attempt.gone_at - attempt.launched_at < FREE_IF_INTERRUPTED_WITHIN
    )
    return 0.0 if free else runtime_s(attempt, now) / 3600 * attempt.usd_per_h


def job_cost_usd(job: Job, now: datetime) -> float:
    return sum(cost_usd(attempt, now) for attempt in job.attempts)


def job_runtime_s(job: Job, now: datetime) -> float:
    """Instance seconds of all attempts together."""
    return sum(runtime_s(attempt, now) for attempt in job.attempts)


def burn_usd_per_h(job: Job) -> float:
    """Dollars an hour of the instances that are not known to be gone."""
    return sum(attempt.usd_per_h for attempt in job.attempts if attempt.gone_at is None)


def projected_usd(job: Job, now: datetime) -> float:
    """The cost if every live instance goes on until the next tick and a last save are over."""
    return job_cost_usd(job, now) + burn_usd_per_h(job) * WATCH_AHEAD_S / 3600


def receipt(job: Job, now: datetime) -> Receipt:
    """What the job cost so far, beside the same instance time at on-demand prices."""
    cost = job_cost_usd(job, now)
    on_demand = sum(runtime_s(attempt, now) / 3600 * attempt.on_demand_usd_per_h for attempt in job.attempts)
    return Receipt(
        cost_usd=round(cost, 4),
        on_demand_usd=round(on_demand, 4),
        saved_usd=round(on_demand - cost, 4),
        runtime_s=round(job_runtime_s(job, now), 1),
        note="Estimated from launch times and the price at launch; volumes, transfer and S3 are not included.",
    )


#: Share of budget_usd at which the owner is told.
BUDGET_WARNING = 0.8


def budget_alert_due(job: Job, now: datetime) -> bool:
    """True while an active job has spent most of its budget and its owner was not told yet."""
    if job.ended or job.manifest is None or any(notice.kind is NoticeKind.BUDGET for notice in job.notices):
        return False
    wanted = NoticeKind.BUDGET.value in job.manifest.notify.on
    return wanted and job_cost_usd(job, now) >= BUDGET_WARNING * job.manifest.limits.budget_usd
