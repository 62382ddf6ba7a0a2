"""What jobs cost, by month: finished jobs from their receipts, the others from their status objects.

A job is counted in the months (UTC) that its attempts ran in, in proportion to the time in each. The receipt of a finished job
lies under the month in which the job was accepted, so the months before are looked through as well.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from dropforge.jobs.find import all_statuses, read_object
from dropforge.stack import CONNECTIONS, Stack
from jobspec import keys, wire
from jobspec.status import AttemptStatus, Status

#: A job waits and runs for 90 days each at most.
MONTHS_BACK = 6


@dataclass(frozen=True, slots=True)
class JobCost:
    """One job's share of a month: dollars, what the same attempts would have cost on-demand, seconds."""

    status: Status
    cost_usd: float
    on_demand_usd: float
    runtime_s: float


def of_month(stack: Stack, month: str, now: datetime) -> list[JobCost]:
    """Every job that ran in the month, dearest first."""
    shares = [share for status in _jobs(stack, month).values() if (share := share_of(status, month, now)).runtime_s > 0]
    return sorted(shares, key=lambda share: share.cost_usd, reverse=True)


def share_of(status: Status, month: str, now: datetime) -> JobCost:
    """The part of the job's receipt that falls into the month; what crossed regions for an attempt falls into that of its end, as the ledger has it."""
    whole_s = sum(attempt.runtime_s for attempt in status.attempts)
    in_month_s = sum(_seconds_in(attempt, month, now) for attempt in status.attempts)
    cost = sum(attempt.cost_usd * _seconds_in(attempt, month, now) / attempt.runtime_s for attempt in status.attempts if attempt.runtime_s)
    cost += sum(attempt.egress_usd for attempt in status.attempts if f"{attempt.ended_at or now:%Y-%m}" == month)
    on_demand = status.receipt.on_demand_usd * in_month_s / whole_s if status.receipt is not None and whole_s else 0.0
    return JobCost(status, cost, on_demand, in_month_s)


def months_until(month: str) -> list[str]:
    """The month and those before it that its jobs may have been accepted in."""
    year, number = (int(part) for part in month.split("-"))
    return [f"{year + (number - 1 - back) // 12:04d}-{(number - 1 - back) % 12 + 1:02d}" for back in range(MONTHS_BACK + 1)]


def _jobs(stack: Stack, month: str) -> dict[str, Status]:
    """By job id: a finished job may be both a name's newest status and a receipt."""
    found = [key for each in months_until(month) for key in _receipt_keys(stack, each)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        bodies = pool.map(lambda key: read_object(stack, stack.data_bucket, key), found)
        receipts = [wire.load(Status, body) for body in bodies if body is not None]
    return {row.status.job_id: row.status for row in all_statuses(stack)} | {status.job_id: status for status in receipts}


def _receipt_keys(stack: Stack, month: str) -> list[str]:
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=stack.data_bucket, Prefix=keys.receipts_prefix(month))
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def _seconds_in(attempt: AttemptStatus, month: str, now: datetime) -> float:
    if attempt.launched_at is None:
        return 0.0
    year, number = (int(part) for part in month.split("-"))
    begin, end = datetime(year, number, 1, tzinfo=UTC), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return max(0.0, (min(attempt.ended_at or now, end) - max(attempt.launched_at, begin)).total_seconds())
