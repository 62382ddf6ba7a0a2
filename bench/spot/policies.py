"""The policies. The published ones as their authors' simulator runs them: Wu et al., "Can't Be Late" (NSDI'24), sections 3 and 4."""

import math

from bench.spot.model import EPSILON_S, IDLE, ON_DEMAND, Sight
from control_plane.core.strategy import KNOBS, Knobs, Record, Situation, SpotOffer, choose, life_s, watched


def greedy(sight: Sight) -> int:
    """Spot when it is there, else wait; the safety net."""
    return _with_net(sight, sight.held if sight.held >= 0 else _any_spot(sight))


def uniform_progress(sight: Sight) -> int:
    """Spot when it is there, on-demand when behind the even line, and not back to spot before it is ahead by two changeovers; the safety net."""
    rate = sight.work_s / sight.deadline_s
    done_s = sight.work_s - sight.work_left_s
    if sight.held >= 0:
        return _with_net(sight, sight.held)
    if sight.held == ON_DEMAND:
        stays = not sight.available or done_s < (sight.now_s + 2 * sight.delay_s) * rate
        return _with_net(sight, ON_DEMAND if stays else _any_spot(sight))
    if sight.available:
        return _with_net(sight, _any_spot(sight))
    return _with_net(sight, ON_DEMAND if done_s < sight.now_s * rate else IDLE)


def _any_spot(sight: Sight) -> int:
    """The cheapest pool that has capacity, the first of equals; IDLE where none has."""
    return min(sight.available, key=lambda pool: sight.spot_usd_per_h[pool], default=IDLE)


def _with_net(sight: Sight, wanted: int) -> int:
    """The authors' safety net: on-demand to the end once another start and its loss would not fit any more, all in whole ticks."""
    gap_s = sight.gap_s
    left_s = math.floor(sight.time_left_s / gap_s + EPSILON_S) * gap_s
    if math.ceil((sight.work_left_s + sight.delay_s) / gap_s - EPSILON_S) * gap_s >= left_s:
        return sight.held if sight.held >= 0 and sight.delay_left_s <= EPSILON_S else ON_DEMAND
    if math.ceil((sight.work_left_s + 2 * sight.delay_s) / gap_s - EPSILON_S) * gap_s >= left_s and sight.held < 0:
        return ON_DEMAND
    return wanted


class Dropforge:
    """The control plane's own choice (``control_plane.core.strategy``), with what the model lets it see; one for each run."""

    def __init__(self, knobs: Knobs = KNOBS) -> None:
        self._knobs = knobs
        self._records: list[Record] = []
        self._up_since: list[float | None] = []
        self._out_since: float | None = None

    def __call__(self, sight: Sight) -> int:
        self._watch(sight)
        choice = choose(self._situation(sight), self._knobs)
        if choice.kind == "spot":
            return sight.available[choice.pool] if choice.pool >= 0 else sight.held
        return ON_DEMAND if choice.kind == "on-demand" else IDLE

    def _watch(self, sight: Sight) -> None:
        """Every tick tells of every pool whether it has capacity, as it does to the published policies."""
        pools = len(sight.spot_usd_per_h)
        if not self._records:
            self._records, self._up_since = [Record()] * pools, [None] * pools
        for pool in range(pools):
            was_up, is_up = self._up_since[pool] is not None, pool in sight.available
            if sight.now_s:
                self._records[pool] = watched(self._records[pool], sight.gap_s, up=was_up, lost=was_up and not is_up, knobs=self._knobs)
            if was_up != is_up:
                self._up_since[pool] = sight.now_s if is_up else None
        self._out_since = None if sight.available else sight.now_s if self._out_since is None else self._out_since

    def _situation(self, sight: Sight) -> Situation:
        offers = [
            SpotOffer(sight.spot_usd_per_h[pool], life_s(self._records[pool], sight.now_s - (self._up_since[pool] or 0.0), self._knobs))
            for pool in sight.available
        ]
        return Situation(
            work_left_s=sight.work_left_s,
            time_left_s=sight.time_left_s,
            delay_s=sight.delay_s,
            return_delay_s=sight.delay_s,
            step_s=sight.gap_s,
            blind_s=0.0,
            running="spot" if sight.held >= 0 else "on-demand" if sight.held == ON_DEMAND else "wait",
            out_s=0.0 if self._out_since is None else sight.now_s - self._out_since,
            on_demand_usd_per_h=sight.on_demand_usd_per_h,
            offers=offers,
            pools=len(sight.spot_usd_per_h),
        )
