"""The published policies, as their authors' simulator runs them: Wu et al., "Can't Be Late" (NSDI'24), sections 3 and 4."""

import math

from bench.spot.model import EPSILON_S, IDLE, ON_DEMAND, Sight


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
