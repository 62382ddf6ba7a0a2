"""What each pool costs that a job may be launched in: its spot price in force or its region's on-demand price, and what crosses regions for it."""

from control_plane.core import egress, strategy
from control_plane.core.events import Offers
from control_plane.core.history import History, key_of
from control_plane.core.records import LaunchPlan, Market, Pool
from jobspec import on_demand
from jobspec.instances import GPU_INSTANCES, PRICES_REGION
from jobspec.regions import region_of


def in_region(offers: Offers, region: str) -> Offers:
    """What that region offers; the home region's where none is of that name."""
    return next((one for one in offers.peers if one.region == region), offers)


def spot_usd_per_h(offers: Offers, pool: Pool) -> float:
    """The pool's spot price in force; a typical one where that is not known."""
    return (offers.spot_usd_per_h or {}).get(key_of(pool), GPU_INSTANCES[pool.instance_type].spot_usd_per_h)


def spot_offer(pool: Pool, offers: Offers, history: History, traffic: egress.Traffic) -> strategy.SpotOffer:
    """The pool as an offer, with what its region adds: bytes that cross regions, at a start and by the hour."""
    there = in_region(offers, region_of(pool.zone))
    return strategy.SpotOffer(
        spot_usd_per_h(there, pool) + egress.usd_per_h(traffic, there.egress),
        strategy.life_s(history.records.get(key_of(pool), strategy.Record()), 0.0),
        egress.move_usd(traffic, there.egress),
    )


def on_demand_usd_per_h(pool: Pool, offers: Offers, traffic: egress.Traffic) -> float:
    """An hour on-demand in the pool's region, with the bytes that cross regions by the hour."""
    region = region_of(pool.zone)
    return on_demand.usd_per_h(pool.instance_type, region) + egress.usd_per_h(traffic, in_region(offers, region).egress)


def cheapest_on_demand_first(pools: tuple[Pool, ...], offers: Offers, traffic: egress.Traffic, work_left_s: float) -> tuple[Pool, ...]:
    """The pools of the region first where the work that is left costs least, a start's bytes included. Where all else is equal the order stays: home first."""

    def usd(pool: Pool) -> float:
        return on_demand_usd_per_h(pool, offers, traffic) * work_left_s / 3600 + egress.move_usd(traffic, in_region(offers, region_of(pool.zone)).egress)

    regions = dict.fromkeys(region_of(pool.zone) for pool in pools)
    best = {region: min(usd(pool) for pool in pools if region_of(pool.zone) == region) for region in regions}
    return tuple(sorted(pools, key=lambda pool: best[region_of(pool.zone)]))


def prices_of(plan: LaunchPlan, offers: Offers) -> str:
    """Where the plan goes beyond home, and at which spot prices it was chosen, in words."""
    there = in_region(offers, plan.region)
    where = f" in {plan.region}" if offers.peers else ""
    if plan.market is not Market.SPOT:
        return where
    cheapest = f"from ${min(spot_usd_per_h(there, pool) for pool in plan.pools):.3f} an hour"
    return f"{where}, {cheapest}" if there.spot_usd_per_h is not None else f"{where}, typically {cheapest} in {PRICES_REGION}: spot prices could not be read"
