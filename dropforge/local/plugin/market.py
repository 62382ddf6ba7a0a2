"""The spot market: which pool (type x zone) has capacity at what price, and why a launch is refused. Pure state, no AWS.

Error codes and their order are EC2's: a quota refuses every pool of its region alike, capacity and price refuse one pool. Prices that
nobody set: 35 % of on-demand, a little apart by zone, so that pools have an order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from dropforge.local.plugin.settings import OfferedType

SPOT_SHARE_OF_ON_DEMAND = 0.35

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, order=True)
class Pool:
    instance_type: str
    zone: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An EC2 error code and message; the code decides whether another pool is worth trying."""

    code: str
    message: str


@dataclass(slots=True)
class SpotMarket:
    """In a Pool, ``*`` stands for every type or every zone, and a region's name for all of its zones; what is said of less counts before
    what is said of more. ``refusals`` counts launches still to be refused. ``quota_vcpus``: by region (or ``*``) and market."""

    types: Mapping[str, OfferedType]
    capacity: dict[Pool, int] = field(default_factory=dict)
    prices: dict[Pool, float] = field(default_factory=dict)
    refusals: dict[Pool, tuple[int, str]] = field(default_factory=dict)
    quota_vcpus: dict[tuple[str, str], int] = field(default_factory=dict)

    def price(self, pool: Pool) -> float:
        """US dollars an hour for a spot instance of the pool."""
        found = _of(self.prices, pool)
        if found is not None:
            return found
        zone_step = (ord(pool.zone[-1]) - ord("a")) * 0.01
        return round(self.types[pool.instance_type].on_demand_usd_per_h * (SPOT_SHARE_OF_ON_DEMAND + zone_step), 4)

    def quota(self, region: str, market: str) -> int | None:
        """vCPUs; None where nobody limited it."""
        return self.quota_vcpus.get((region, market), self.quota_vcpus.get(("*", market)))

    def refusal(self, pool: Pool, market: str, *, live: Mapping[Pool, int], vcpus_live: int, max_price: float | None) -> Refusal | None:
        """Why EC2 would not start one more instance of the pool now, or None. ``live`` counts the market's instances in the pool's region."""
        if pool.instance_type not in self.types:
            return Refusal("Unsupported", f"The instance type {pool.instance_type} is not offered in {pool.zone}.")
        quota = self.quota(_region(pool.zone), market)
        if quota is not None and vcpus_live + self.types[pool.instance_type].vcpus > quota:
            return _over_quota(market, quota)
        planned = self._planned_refusal(pool)
        if planned is not None:
            return planned
        capacity = _of(self.capacity, pool)
        if market == "spot" and capacity is not None and live.get(pool, 0) >= capacity:
            return _no_capacity("InsufficientInstanceCapacity", pool)
        if market == "spot" and max_price is not None and max_price < self.price(pool):
            return Refusal("SpotMaxPriceTooLow", f"Your Spot request price of {max_price} is lower than the minimum required {self.price(pool)}.")
        return None

    def _planned_refusal(self, pool: Pool) -> Refusal | None:
        for key in _keys(pool):
            count, code = self.refusals.get(key, (0, ""))
            if count > 0:
                self.refusals[key] = (count - 1, code)
                return _no_capacity(code, pool)
        return None


def _region(zone: str) -> str:
    return zone[:-1]


def _keys(pool: Pool) -> tuple[Pool, ...]:
    return tuple(Pool(name, where) for name in (pool.instance_type, "*") for where in (pool.zone, _region(pool.zone), "*"))


def _of(table: dict[Pool, Value], pool: Pool) -> Value | None:
    return next((table[key] for key in _keys(pool) if key in table), None)


def _no_capacity(code: str, pool: Pool) -> Refusal:
    return Refusal(code, f"There is no Spot capacity available that matches your request: {pool.instance_type} in {pool.zone}.")


def _over_quota(market: str, quota: int) -> Refusal:
    if market == "spot":
        return Refusal("MaxSpotInstanceCountExceeded", f"Max spot instance count exceeded: the quota is {quota} vCPUs.")
    return Refusal("VcpuLimitExceeded", f"You have requested more vCPU capacity than your current vCPU limit of {quota} allows.")
