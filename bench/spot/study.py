"""Every policy over every window of every world, and what comes of it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.spot import policies
from bench.spot.bound import bounds
from bench.spot.model import EPSILON_S, Outcome, Policy, Settings, Window, is_late, on_demand_usd, replay, window_of
from bench.spot.traces import TraceError, World

BOUND = "bound"
#: By name, what makes a policy for one run.
POLICIES: dict[str, Callable[[], Policy]] = {
    "greedy": lambda: policies.greedy,
    "uniform_progress": lambda: policies.uniform_progress,
    "dropforge": policies.Dropforge,
}


@dataclass(frozen=True, slots=True)
class Runs:
    """A policy's outcomes in one world, window by window, and what on-demand from the start costs there."""

    world: str
    policy: str
    outcomes: tuple[Outcome, ...]
    on_demand_usd: float


def study(worlds: list[World], settings: Settings, windows: int) -> Iterator[Runs]:
    """Runs as they are done: each policy, and last the bound, for one world after the other. Raises TraceError before the first."""
    cut = [windows_of(world, settings, windows) for world in worlds]
    for world, some in zip(worlds, cut, strict=True):
        base = on_demand_usd(some[0], settings)
        for name, make in POLICIES.items():
            yield Runs(world.name, name, tuple(replay(window, settings, make()) for window in some), base)
        yield Runs(world.name, BOUND, tuple(bounds(some, settings)), base)


def windows_of(world: World, settings: Settings, windows: int) -> list[Window]:
    """Random starts as the paper's authors draw them: ``RandomState(i).randint`` for the i-th. Raises TraceError for a short trace."""
    ticks = int(settings.deadline_s / world.gap_s + EPSILON_S) + 2
    if world.ticks <= ticks:
        need_h = ticks * world.gap_s / 3600
        raise TraceError(f"{world.name} has {world.ticks} ticks of {world.gap_s:g} s; a run of this deadline needs more than {ticks} ({need_h:.1f} h).")
    return [window_of(world, int(np.random.RandomState(seed).randint(0, world.ticks - ticks)), ticks) for seed in range(windows)]


def summary(runs: list[Runs], settings: Settings) -> dict[str, dict[str, Any]]:
    """The figures of each policy over all its runs. Ratios are of on-demand from the start; the gap is run by run to the bound of that run."""
    floor = {one.world: one for one in runs if one.policy == BOUND}
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(one.policy for one in runs):
        mine = [one for one in runs if one.policy == name]
        outcomes = [outcome for one in mine for outcome in one.outcomes]
        ratios = [outcome.usd / one.on_demand_usd for one in mine for outcome in one.outcomes]
        gaps = [(outcome.usd - best.usd) / one.on_demand_usd for one in mine for outcome, best in zip(one.outcomes, floor[one.world].outcomes, strict=True)]
        found[name] = {
            "cost_ratio": round(_mean(ratios), 6),
            "usd_mean": round(_mean([outcome.usd for outcome in outcomes]), 4),
            "late": sum(is_late(outcome, settings) for outcome in outcomes),
            "runs": len(outcomes),
            "launches_mean": round(_mean([outcome.launches for outcome in outcomes]), 4),
            "on_demand_h_mean": round(_mean([outcome.on_demand_work_s for outcome in outcomes]) / 3600, 4),
            "spot_h_mean": round(_mean([outcome.spot_work_s for outcome in outcomes]) / 3600, 4),
            "gap_to_bound_p75": round(float(np.percentile(gaps, 75)), 6),
        }
    return found


def _mean(values: list[float] | list[int]) -> float:
    return math.fsum(values) / len(values)
