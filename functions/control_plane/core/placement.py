"""Where the next attempt is asked for: every zone and type that fits, in one fleet call; pools that just refused rest."""

import hashlib
from datetime import datetime, timedelta

from control_plane.core import ledger
from control_plane.core.events import Offers
from control_plane.core.state import Job, LaunchPlan, Market, Pool

#: A pool that had no capacity is passed over this long, as long as another is left.
POOL_REST = timedelta(minutes=5)
#: Overrides of one fleet call; EC2 allows 300, nobody needs so many.
MAX_POOLS = 60
#: Backoff between two calls that every pool refused.
FIRST_WAIT_S, LONGEST_WAIT_S = 30, 600


def pools_of(job: Job, offers: Offers) -> tuple[Pool, ...]:
    """Every pool that the manifest allows, cheapest type first; empty when its zones are none of the stack's."""
    assert job.manifest is not None
    compute = job.manifest.compute
    zones = [zone for zone in sorted(offers.subnets) if compute.zones is None or zone in compute.zones]
    return tuple(Pool(instance_type=instance_type, zone=zone, subnet_id=offers.subnets[zone]) for instance_type in compute.candidate_types() for zone in zones)[
        :MAX_POOLS
    ]


def _rested(job: Job, pools: tuple[Pool, ...], market: Market, now: datetime) -> tuple[Pool, ...]:
    tired = {(f.instance_type, f.zone) for f in job.pool_failures if f.market is market and now - f.at < POOL_REST}
    return tuple(pool for pool in pools if (pool.instance_type, pool.zone) not in tired)


def plan_launch(job: Job, offers: Offers, now: datetime) -> LaunchPlan | None:
    """The plan of the next launch call, or None when no pool is offered. The plan is a function of its arguments alone."""
    pools = pools_of(job, offers)
    if not pools:
        return None
    assert job.manifest is not None
    wish = job.manifest.compute.market
    market = Market.ON_DEMAND if wish == "on-demand" else Market.SPOT
    rested = _rested(job, pools, market, now)
    if not rested and wish == "cheapest":
        market = Market.ON_DEMAND
        rested = _rested(job, pools, market, now)
    attempt, try_number = len(job.attempts) + 1, job.tries + 1
    chosen = rested or pools
    return LaunchPlan(
        attempt=attempt,
        try_number=try_number,
        market=market,
        pools=chosen,
        template_id=offers.template_id,
        template_version=offers.template_version,
        role_id=offers.role_id,
        client_token=_client_token(job.job_id, attempt, try_number, market, chosen, offers),
        deadline_at=stop_at(job, now),
        planned_at=now,
    )


def stop_at(job: Job, now: datetime) -> datetime:
    """When an instance that starts now must be over: the run time left to the job, or its deadline if that is sooner."""
    assert job.manifest is not None
    limits = job.manifest.limits
    by_runtime = now + timedelta(seconds=max(0.0, limits.max_runtime - ledger.job_runtime_s(job, now)))
    return min(by_runtime, limits.deadline) if limits.deadline else by_runtime


def wait_s(times: int) -> int:
    """Seconds to wait after the ``times``-th refusal in a row: 30, 60, 120, ... 600."""
    return int(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(times - 1, 10)))


def _client_token(job_id: str, attempt: int, try_number: int, market: Market, pools: tuple[Pool, ...], offers: Offers) -> str:
    """At most 64 ASCII characters. A changed parameter gives another token, for the same token with other parameters is an error."""
    parts = [job_id, attempt, try_number, market, offers.template_id, offers.template_version, *(f"{p.instance_type}/{p.subnet_id}" for p in pools)]
    return "df-" + hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:48]
