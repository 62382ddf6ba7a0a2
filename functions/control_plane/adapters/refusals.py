"""From EC2's errors for each pool to one answer."""

from collections.abc import Iterable
from dataclasses import dataclass

from control_plane.core.events import LaunchRefused
from control_plane.core.failures import RefusalKind, deciding_kind, kind_of
from control_plane.core.records import LaunchPlan, Pool

#: Room for every code and the first message; the whole goes into a reason that people read.
_MAX_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class PoolError:
    """One error of a fleet's answer, with the pools it speaks of (all of the plan's where EC2 names none)."""

    code: str
    message: str
    pools: tuple[Pool, ...]


def refused(plan: LaunchPlan, errors: Iterable[PoolError]) -> LaunchRefused:
    """The refusal that a fleet answer without an instance amounts to. Pools that want capacity keep the plan's order."""
    found = list(errors)
    codes = list(dict.fromkeys(error.code for error in found))
    full = {pool for error in found if kind_of(error.code) is RefusalKind.CAPACITY for pool in error.pools}
    message = f"{', '.join(codes)}: {found[0].message}" if found else "EC2 started no instance and gave no reason"
    return LaunchRefused(plan, deciding_kind(codes), message[:_MAX_MESSAGE], tuple(pool for pool in plan.pools if pool in full))
