"""The model of "Can't Be Late" (NSDI'24, section 3), tick by tick: physics and billing only, the same for every policy.

At each tick a policy sees which pools have capacity and decides for the tick that begins. Every start of an instance costs a delay
in which it is paid and does no work; idling is free; a started tick is billed whole; a spot instance whose pool has no capacity
is taken back at once, and nothing but a new delay is lost. On-demand can always be had.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from bench.spot.traces import World

#: What a policy may answer instead of the index of a pool.
IDLE, ON_DEMAND = -1, -2
#: EC2 bills nothing for a spot instance that it takes back within this time (EC2 guide, "Billing for interrupted Spot Instances").
FREE_IF_INTERRUPTED_WITHIN_S = 3600.0
#: Below this, seconds are rounding errors.
EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Settings:
    """The job and the rules: seconds of work, to the deadline, and of delay at each start."""

    work_s: float
    deadline_s: float
    delay_s: float
    first_hour_free: bool = False


@dataclass(slots=True)
class Sight:
    """What a policy sees at a tick. ``held`` is IDLE, ON_DEMAND or the index of the pool whose instance runs."""

    gap_s: float
    work_s: float
    work_left_s: float
    deadline_s: float
    now_s: float
    delay_s: float
    held: int
    held_since_s: float
    #: Seconds of delay that the running instance still has to go through.
    delay_left_s: float
    #: Indices of the pools with capacity in this tick.
    available: tuple[int, ...]
    #: Dollars an hour of each pool, and of on-demand.
    spot_usd_per_h: tuple[float, ...]
    on_demand_usd_per_h: float
    #: The pool that was taken back at this very tick, or IDLE.
    lost: int = IDLE

    @property
    def time_left_s(self) -> float:
        return self.deadline_s - self.now_s


class Policy(Protocol):
    """One run's policy: asked once a tick. The answer is IDLE, ON_DEMAND, or the index of a pool in ``sight.available``."""

    def __call__(self, sight: Sight) -> int: ...


@dataclass(slots=True)
class Outcome:
    """One run. Ticks are billed ticks, delays included; ``finished_s`` after the start, None where the trace ended first."""

    usd: float = 0.0
    launches: int = 0
    on_demand_ticks: int = 0
    spot_ticks: int = 0
    #: Work done on each market in seconds, delays left out: what the paper's Table 3 counts.
    on_demand_work_s: float = 0.0
    spot_work_s: float = 0.0
    finished_s: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a world in plain tuples, tick by tick: what a run goes through."""

    gap_s: float
    available: tuple[tuple[int, ...], ...]
    spot_usd_per_h: tuple[tuple[float, ...], ...]
    on_demand_usd_per_h: float


def window_of(world: World, start: int, ticks: int) -> Window:
    available = [pool.available[start : start + ticks] for pool in world.pools]
    prices = [pool.spot_usd_per_h[start : start + ticks].tolist() for pool in world.pools]
    return Window(
        gap_s=world.gap_s,
        available=tuple(tuple(index for index, has in enumerate(column) if has) for column in zip(*(one.tolist() for one in available), strict=True)),
        spot_usd_per_h=tuple(zip(*prices, strict=True)),
        on_demand_usd_per_h=world.on_demand_usd_per_h,
    )


def replay(window: Window, settings: Settings, policy: Policy) -> Outcome:
    """One run of a policy from the window's first tick to the end of the work."""
    outcome, gap_s = Outcome(), window.gap_s
    sight = _first_sight(window, settings)
    #: Dollars of the instance that runs: still free should EC2 take it back in its first hour.
    open_usd = 0.0
    for tick, available in enumerate(window.available):
        sight.now_s, sight.available, sight.spot_usd_per_h = tick * gap_s, available, window.spot_usd_per_h[tick]
        sight.lost = IDLE
        if sight.held >= 0 and sight.held not in available:
            sight.lost, sight.held, sight.delay_left_s = sight.held, IDLE, 0.0
            is_free = settings.first_hour_free and sight.now_s - sight.held_since_s < FREE_IF_INTERRUPTED_WITHIN_S
            outcome.usd, open_usd = outcome.usd + (0.0 if is_free else open_usd), 0.0
        wanted = policy(sight)
        if wanted != sight.held:
            if wanted >= 0 and wanted not in available:
                raise ValueError(f"the policy asked for pool {wanted}, which has no capacity in tick {tick}")
            outcome.usd, open_usd = outcome.usd + open_usd, 0.0
            sight.held, sight.held_since_s = wanted, sight.now_s
            sight.delay_left_s = 0.0 if wanted == IDLE else settings.delay_s
            outcome.launches += wanted != IDLE
        if wanted == IDLE:
            continue
        open_usd += (sight.on_demand_usd_per_h if wanted == ON_DEMAND else sight.spot_usd_per_h[wanted]) * gap_s / 3600
        worked_s = min(max(gap_s - sight.delay_left_s, 0.0), sight.work_left_s)
        if wanted == ON_DEMAND:
            outcome.on_demand_ticks += 1
            outcome.on_demand_work_s += worked_s
        else:
            outcome.spot_ticks += 1
            outcome.spot_work_s += worked_s
        sight.work_left_s -= worked_s
        if sight.work_left_s <= EPSILON_S:
            outcome.finished_s = sight.now_s + sight.delay_left_s + worked_s
            break
        sight.delay_left_s = max(sight.delay_left_s - gap_s, 0.0)
    outcome.usd += open_usd
    return outcome


def _first_sight(window: Window, settings: Settings) -> Sight:
    return Sight(
        gap_s=window.gap_s,
        work_s=settings.work_s,
        work_left_s=settings.work_s,
        deadline_s=settings.deadline_s,
        now_s=0.0,
        delay_s=settings.delay_s,
        held=IDLE,
        held_since_s=0.0,
        delay_left_s=0.0,
        available=(),
        spot_usd_per_h=(),
        on_demand_usd_per_h=window.on_demand_usd_per_h,
    )


def is_late(outcome: Outcome, settings: Settings) -> bool:
    return outcome.finished_s is None or outcome.finished_s > settings.deadline_s + EPSILON_S


def on_demand_usd(window: Window, settings: Settings) -> float:
    """On-demand from the start, as the paper counts it: the work in whole ticks, without a delay."""
    return math.ceil(settings.work_s / window.gap_s - EPSILON_S) * window.gap_s / 3600 * window.on_demand_usd_per_h
