"""Where the next attempt is asked for, and on which market: every zone and type that fits, in one fleet call.

``place`` for a job that has no instance, ``place_return`` for one that works on on-demand where spot may pay. Both ask
``strategy.choose``, at the spot prices in force; whether a pool has capacity is only learnt by asking it, so a pool that may be asked counts as one that has.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.core import egress, ledger, strategy
from control_plane.core import pools as pricing
from control_plane.core.events import Offers
from control_plane.core.history import History, key_of
from control_plane.core.records import Attempt, LaunchPlan, Market, Pool
from control_plane.core.state import QUEUED, Job, WaitKind
from jobspec.regions import region_of

#: Overrides of one fleet call; EC2 allows 300, nobody needs so many.
MAX_POOLS = 60
#: Backoff between two calls that every pool refused.
FIRST_WAIT_S, LONGEST_WAIT_S = 30, 600
#: The tick decides anew this often; a loss may go unseen for two of them, and for as long as a heartbeat may be stale.
STEP_S, UNSEEN_S = 60.0, 120.0 + 300.0
#: The time of a job without a deadline: so long that it never presses.
NO_DEADLINE_S = 1e9
#: A pool is asked along with the cheapest if it saves at least so much of what that one does; it is asked alone once that one refuses.
ASKED_SHARE = 0.5
#: Attempts that a return to spot leaves over, for the interruptions that may follow.
SPARE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """Nothing is asked for now: waiting is free, and spot may come."""

    reason: str


def allowed(job: Job, offers: Offers) -> tuple[Offers, ...]:
    """What each region offers that the manifest allows: the home region alone where it names none."""
    assert job.manifest is not None
    wanted = job.manifest.compute.regions
    return (offers,) if wanted is None else tuple(one for one in (offers, *offers.peers) if one.region in wanted)


def pools_of(job: Job, offers: Offers) -> tuple[Pool, ...]:
    """Every pool that the manifest allows, region by region, cheapest type first; empty when its zones are none of the stack's."""
    return tuple(pool for one in allowed(job, offers) for pool in _pools_in(job, one))


def _pools_in(job: Job, offers: Offers) -> tuple[Pool, ...]:
    assert job.manifest is not None
    compute = job.manifest.compute
    zones = [zone for zone in sorted(offers.subnets) if compute.zones is None or zone in compute.zones]
    return tuple(Pool(instance_type=instance_type, zone=zone, subnet_id=offers.subnets[zone]) for instance_type in compute.candidate_types() for zone in zones)[
        :MAX_POOLS
    ]


def place(job: Job, offers: Offers, history: History, now: datetime) -> LaunchPlan | Patience | None:
    """The next launch call of a job that has no instance, or why none is made now; None when no pool is offered. A function of its arguments alone."""
    pools = pools_of(job, offers)
    assert job.manifest is not None
    if not pools:
        unread = set(job.manifest.compute.regions or ()) - {one.region for one in (offers, *offers.peers)}
        return Patience(f"what is offered in {', '.join(sorted(unread))} cannot be read now") if unread else None
    rested = {market: tuple(pool for pool in pools if key_of(pool) not in history.tired[market]) for market in Market}
    match job.manifest.compute.market:
        case "on-demand":
            return _on_demand(job, offers, rested, pools, history, now)
        case "spot":
            asked = rested[Market.SPOT] or pools
            return plan_launch(job, offers, Market.SPOT, _best_region_first(situation_of(job, offers, asked, history, now), asked), history, now)
        case "cheapest":
            return _cheapest(job, offers, history, rested, pools, now)


def _cheapest(
    job: Job, offers: Offers, history: History, rested: dict[Market, tuple[Pool, ...]], pools: tuple[Pool, ...], now: datetime
) -> LaunchPlan | Patience:
    assert job.manifest is not None
    must_wait = is_waiting(job, now)
    asked = () if must_wait else rested[Market.SPOT]
    if job.manifest.limits.deadline is None:
        # Nothing presses, but nobody said that it may wait either: on-demand at once where spot has none to give.
        spot = _that_pay(situation_of(job, offers, asked, history, now), asked)
        return plan_launch(job, offers, Market.SPOT, spot, history, now) if spot else _on_demand(job, offers, rested, pools, history, now)
    asked = asked or (() if must_wait else pools)
    moment = situation_of(job, offers, asked, history, now)
    choice = strategy.choose(moment)
    if choice.kind == "spot":
        return plan_launch(job, offers, Market.SPOT, _that_pay(moment, asked), history, now)
    if choice.kind == "on-demand" and (rested[Market.ON_DEMAND] or not must_wait):
        return _on_demand(job, offers, rested, pools, history, now)
    return Patience(choice.reason if choice.kind == "wait" else "neither spot nor on-demand has capacity")


def _on_demand(job: Job, offers: Offers, rested: dict[Market, tuple[Pool, ...]], pools: tuple[Pool, ...], history: History, now: datetime) -> LaunchPlan:
    asked = rested[Market.ON_DEMAND] or pools
    first = pricing.cheapest_on_demand_first(asked, offers, egress.traffic_of(job, now), history.progress.work_left_s)
    return plan_launch(job, offers, Market.ON_DEMAND, first, history, now)


def may_return(job: Job, attempt: Attempt) -> bool:
    """The attempt works on on-demand, and its manifest would rather have it on spot."""
    return attempt.market is Market.ON_DEMAND and job.manifest is not None and job.manifest.compute.market == "cheapest"


def place_return(job: Job, offers: Offers, history: History, now: datetime) -> LaunchPlan | None:
    """A spot instance to relieve the on-demand instance that works, or None where that does not pay, or is not known to."""
    assert job.manifest is not None
    if not history.progress.measured or len(job.attempts) + SPARE_ATTEMPTS >= job.manifest.limits.max_attempts:
        return None
    asked = tuple(pool for pool in pools_of(job, offers) if key_of(pool) not in history.tired[Market.SPOT])
    moment = situation_of(job, offers, asked, history, now, running="on-demand")
    return plan_launch(job, offers, Market.SPOT, _that_pay(moment, asked), history, now) if strategy.choose(moment).kind == "spot" else None


def is_waiting(job: Job, now: datetime) -> bool:
    """A refusal is being waited out. A hold or another's turn is none: those are asked about at each look."""
    return job.wait is not None and job.wait.until > now and job.wait.kind not in QUEUED


def may_press(job: Job) -> bool:
    """Time may overrule the wait: spot has none to give, and on-demand may be asked for the deadline's sake."""
    assert job.manifest is not None
    pressed = job.manifest.compute.market == "cheapest" and job.manifest.limits.deadline is not None
    return pressed and job.wait is not None and job.wait.kind in (WaitKind.CAPACITY, WaitKind.QUOTA)


def situation_of(job: Job, offers: Offers, asked: tuple[Pool, ...], history: History, now: datetime, *, running: strategy.Kind = "wait") -> strategy.Situation:
    """The job's moment as the strategy sees it, with the pools that may be asked at the prices in force."""
    assert job.manifest is not None
    progress, stop = history.progress, job.manifest.limits.deadline
    traffic, pools = egress.traffic_of(job, now), pools_of(job, offers)
    return strategy.Situation(
        work_left_s=progress.work_left_s,
        time_left_s=(stop - now).total_seconds() if stop is not None else NO_DEADLINE_S,
        delay_s=history.delay_s,
        return_delay_s=history.return_delay_s,
        step_s=STEP_S,
        # What a silent loss costs: it goes unseen for a while, and what was done since the last checkpoint is done again.
        blind_s=UNSEEN_S + history.save_interval_s,
        running=running,
        out_s=history.out_s,
        on_demand_usd_per_h=_on_demand_usd_per_h(job, pools, offers, traffic),
        offers=[pricing.spot_offer(pool, offers, history, traffic) for pool in asked],
        pools=len(pools),
    )


def _on_demand_usd_per_h(job: Job, pools: tuple[Pool, ...], offers: Offers, traffic: egress.Traffic) -> float:
    """What an hour costs of the on-demand instance that works, else of the cheapest that may be asked for."""
    working = next((one for one in job.attempts if one.serves and one.market is Market.ON_DEMAND), None)
    if working is not None:
        return working.on_demand_usd_per_h + egress.usd_per_h(traffic, working.plan.egress)
    # Without a pool there is no offer to weigh it against.
    return min((pricing.on_demand_usd_per_h(pool, offers, traffic) for pool in pools), default=0.0)


def _that_pay(moment: strategy.Situation, asked: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """The pools that pay, those of the best one's region first, without those that save less than ``ASKED_SHARE`` of what the best of
    their region saves: EC2 picks one of all that are asked, and looks at capacity before the price."""
    paying = {pool: moment.on_demand_usd_per_h - offer.usd_per_h for pool, offer in zip(asked, moment.offers, strict=True) if strategy.pays(moment, offer)}
    most: dict[str, float] = {}
    for pool, saved in paying.items():
        most[region_of(pool.zone)] = max(most.get(region_of(pool.zone), 0.0), saved)
    return tuple(pool for pool in _best_region_first(moment, asked) if pool in paying and paying[pool] >= ASKED_SHARE * most[region_of(pool.zone)])


def _best_region_first(moment: strategy.Situation, asked: tuple[Pool, ...]) -> tuple[Pool, ...]:
    best = strategy.best_of(moment)
    return tuple(sorted(asked, key=lambda pool: region_of(pool.zone) != region_of(asked[best].zone))) if best >= 0 else asked


def plan_launch(job: Job, offers: Offers, market: Market, pools: tuple[Pool, ...], history: History, now: datetime) -> LaunchPlan:
    """The plan of the next launch call, in full: of the first pool's region, with all of that region's pools."""
    assert job.manifest is not None
    attempt, try_number, nodes = len(job.attempts) + 1, job.tries + 1, job.manifest.compute.nodes
    there = pricing.in_region(offers, region_of(pools[0].zone))
    asked = tuple(pool for pool in pools if region_of(pool.zone) == there.region)
    return LaunchPlan(
        attempt=attempt,
        try_number=try_number,
        market=market,
        nodes=nodes,
        pools=asked,
        template_id=there.template_id,
        template_version=there.template_version,
        role_id=there.role_id,
        client_token=_client_token(job.job_id, attempt, try_number, market, nodes, asked, there),
        deadline_at=stop_at(job, now),
        planned_at=now,
        egress=there.egress,
        # Not to those that have just refused: they are asked again in their time, one region after the other.
        elsewhere=any(key_of(pool) not in history.tired[market] for pool in pools if pool not in asked),
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


def _client_token(job_id: str, attempt: int, try_number: int, market: Market, nodes: int, pools: tuple[Pool, ...], offers: Offers) -> str:
    """At most 64 ASCII characters. A changed parameter gives another token, for the same token with other parameters is an error."""
    alone = [] if nodes == 1 else [nodes]
    parts = [job_id, attempt, try_number, market, *alone, offers.template_id, offers.template_version, *(f"{p.instance_type}/{p.subnet_id}" for p in pools)]
    return "df-" + hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:48]
