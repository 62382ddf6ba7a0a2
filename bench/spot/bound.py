"""The exact lower bound: the cheapest run that somebody could have made who knew the whole trace ("Omniscient" in NSDI'24).

Dynamic programming backwards over ticks. Its second coordinate is not the progress but the slack used up so far, in units of
gcd(gap, delay): an idle tick uses a gap of it, a start its delay (none at the run's first tick, as in the paper), work uses none.
What is used never exceeds deadline - work, so this is the same optimum on a grid four to ten times smaller.

With the first-hour rule a start may also be held until EC2 takes it back, and cost nothing, where that comes within the hour.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.spot.model import EPSILON_S, FREE_IF_INTERRUPTED_WITHIN_S, Outcome, Settings, Window

#: More units than this are too slow; then units grow, and delays are rounded down to them: still a lower bound.
MAX_UNITS = 30_000
#: Bytes that the decisions of a batch of windows may take.
_BATCH_BYTES = 64 * 2**20
_WAIT, _ON_DEMAND, _POOL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Grid:
    """The slack axis: ``unit_s`` a step, ``last`` the most that may be used; a gap and a delay in steps."""

    unit_s: float
    last: int
    gap: int
    delay: int


def grid_of(settings: Settings, gap_s: float) -> Grid:
    """Exact to the millisecond, unless that would take more than MAX_UNITS."""
    gap_ms, delay_ms = round(gap_s * 1000), round(settings.delay_s * 1000)
    slack_ms = round((settings.deadline_s - settings.work_s) * 1000)
    unit_ms = math.gcd(gap_ms, delay_ms)
    parts = gap_ms // unit_ms
    while parts > 1 and slack_ms * parts > MAX_UNITS * gap_ms:
        parts -= 1
    unit = gap_ms / parts
    return Grid(unit / 1000, int(slack_ms / unit + 1e-9), parts, int(delay_ms / unit + 1e-9))


def bounds(windows: list[Window], settings: Settings) -> list[Outcome]:
    """The cheapest outcome of each window. All windows are of one gap, one length and one number of pools."""
    grid = grid_of(settings, windows[0].gap_s)
    ticks = min(len(windows[0].available), math.ceil(settings.deadline_s / windows[0].gap_s - EPSILON_S))
    modes = 2 + len(windows[0].spot_usd_per_h[0])
    size = max(1, _BATCH_BYTES // (ticks * modes * (grid.last + 1)))
    return [outcome for at in range(0, len(windows), size) for outcome in _Batch(windows[at : at + size], settings, grid, ticks).outcomes()]


class _Batch:
    """Windows solved side by side. Arrays are (window, slack used)."""

    def __init__(self, windows: list[Window], settings: Settings, grid: Grid, ticks: int) -> None:
        self.windows, self.settings, self.grid, self.ticks = windows, settings, grid, ticks
        self.gap_s = windows[0].gap_s
        self.pools = len(windows[0].spot_usd_per_h[0])
        prices = np.array([window.spot_usd_per_h[:ticks] for window in windows])
        #: (tick, pool, window): dollars for the tick, infinite where the pool has no capacity.
        self.usd = np.full((ticks, self.pools, len(windows)), np.inf)
        for row, window in enumerate(windows):
            for tick, available in enumerate(window.available[:ticks]):
                self.usd[tick, list(available), row] = prices[row, tick, list(available)] * self.gap_s / 3600
        self.on_demand_usd = windows[0].on_demand_usd_per_h * self.gap_s / 3600
        self.free_ends = self._free_ends()

    def _free_ends(self) -> NDArray[np.int64]:
        """(tick, pool, window): the tick at which an instance that starts here is taken back free of charge, or 0."""
        has = np.isfinite(self.usd)
        ends = np.zeros(has.shape, dtype=np.int64)
        if not self.settings.first_hour_free:
            return ends
        lost_at = np.full(has.shape[1:], self.ticks)
        for tick in reversed(range(self.ticks)):
            lost_at = np.where(has[tick], lost_at, tick)
            soon = has[tick] & (lost_at < self.ticks) & ((lost_at - tick) * self.gap_s < FREE_IF_INTERRUPTED_WITHIN_S)
            ends[tick] = np.where(soon, lost_at, 0)
        return ends

    def outcomes(self) -> list[Outcome]:
        choices, stays = self._solved()
        return [self._followed(row, choices, stays) for row in range(len(self.windows))]

    def _done(self, tick: int) -> int:
        """How many of the lowest slack values mean that the work is done when the tick begins."""
        return max(0, min(self.grid.last + 1, math.floor((tick * self.gap_s - self.settings.work_s) / self.grid.unit_s + 1e-6) + 1))

    def _solved(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Backwards: what to do when idle (tick, window, slack), and whether to keep on-demand or a pool (tick, mode, window, slack)."""
        shape = (len(self.windows), self.grid.last + 1)
        choices = np.zeros((self.ticks, *shape), dtype=np.uint8)
        stays = np.zeros((self.ticks, 1 + self.pools, *shape), dtype=bool)
        # The instance that runs in the last tick may be done within it; a whole tick after it is never needed.
        idle = np.full(shape, np.inf)
        idle[:, : self._last_done()] = 0.0
        held = [idle] * (1 + self.pools)
        later = {self.ticks: idle}
        for tick in reversed(range(self.ticks)):
            delay = self.grid.delay if tick else 0
            best, choice = _shifted(idle, self.grid.gap), choices[tick]
            kept = []
            for mode in range(1 + self.pools):
                paid = held[mode] + (self.on_demand_usd if mode == 0 else self.usd[tick, mode - 1][:, None])
                best = _better(best, _shifted(paid, delay), choice, _ON_DEMAND + mode)
                kept.append(paid)
            for pool in range(self.pools):
                self._free_starts(best, choice, later, tick, pool)
            best[:, : self._done(tick)] = 0.0
            for mode, paid in enumerate(kept):
                np.less(paid, best, out=stays[tick, mode])
                kept[mode] = np.minimum(paid, best)
            idle, held = best, kept
            later[tick] = idle
            later.pop(tick + math.ceil(FREE_IF_INTERRUPTED_WITHIN_S / self.gap_s) + 1, None)
        return choices, stays

    def _last_done(self) -> int:
        """As ``_done`` at the end of the last tick, which the deadline may cut: only the part before it counts."""
        end_s = min(self.ticks * self.gap_s, self.settings.deadline_s)
        return max(0, min(self.grid.last + 1, math.floor((end_s - self.settings.work_s) / self.grid.unit_s + 1e-6) + 1))

    def _free_starts(self, best: NDArray[np.float64], choice: NDArray[np.uint8], later: dict[int, NDArray[np.float64]], tick: int, pool: int) -> None:
        ends = self.free_ends[tick, pool]
        for row in np.flatnonzero(ends):
            used = min(self.grid.delay if tick else 0, (int(ends[row]) - tick) * self.grid.gap)
            held = _shifted(later[int(ends[row])][row : row + 1], used)
            best[row : row + 1] = _better(best[row : row + 1], held, choice[row : row + 1], _POOL + self.pools + pool)

    def _followed(self, row: int, choices: NDArray[np.uint8], stays: NDArray[np.bool_]) -> Outcome:
        """The cheapest run itself, from the first tick on."""
        outcome, tick, used, mode, delay_left = Outcome(), 0, 0, _WAIT, 0
        while tick < self.ticks and used >= self._done(tick):
            choice = mode if mode != _WAIT and stays[tick, mode - 1, row, used] else int(choices[tick, row, used])
            if choice == _WAIT:
                mode, used, tick = _WAIT, used + self.grid.gap, tick + 1
                continue
            is_free = choice >= _POOL + self.pools
            target = choice - self.pools if is_free else choice
            ticks = int(self.free_ends[tick, target - _POOL, row]) - tick if is_free else 1
            if target != mode:
                outcome.launches += 1
                delay_left = self.grid.delay if tick else 0
                used += min(delay_left, ticks * self.grid.gap) if is_free else delay_left
            worked = max(0, ticks * self.grid.gap - delay_left)
            delay_left = max(0, delay_left - ticks * self.grid.gap)
            self._count(outcome, row, tick, target, ticks, worked_s=worked * self.grid.unit_s, is_free=is_free)
            tick += ticks
            lost = target >= _POOL and (tick >= self.ticks or not math.isfinite(self.usd[tick, target - _POOL, row]))
            mode = _WAIT if is_free or lost else target
        outcome.finished_s = self.settings.work_s + used * self.grid.unit_s
        return outcome

    def _count(self, outcome: Outcome, row: int, tick: int, target: int, ticks: int, *, worked_s: float, is_free: bool) -> None:
        worked_s = min(worked_s, self.settings.work_s - outcome.on_demand_work_s - outcome.spot_work_s)
        if target == _ON_DEMAND:
            outcome.on_demand_ticks += ticks
            outcome.on_demand_work_s += worked_s
            outcome.usd += self.on_demand_usd
        else:
            outcome.spot_ticks += ticks
            outcome.spot_work_s += worked_s
            outcome.usd += 0.0 if is_free else float(self.usd[tick, target - _POOL, row])


def _shifted(costs: NDArray[np.float64], used: int) -> NDArray[np.float64]:
    """The costs after so much more slack is used: infinite where there is not so much left."""
    if used == 0:
        return costs.copy()
    moved = np.full_like(costs, np.inf)
    moved[:, : max(0, costs.shape[1] - used)] = costs[:, used:]
    return moved


def _better(best: NDArray[np.float64], other: NDArray[np.float64], choice: NDArray[np.uint8], name: int) -> NDArray[np.float64]:
    """The cheaper of the two; notes where it is the other."""
    np.putmask(choice, other < best, name)
    return np.minimum(best, other, out=best)
