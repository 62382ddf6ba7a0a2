"""The third stop: ends instances that are past the deadline in their own tags, whatever became of the rest of us.

The instance's own timer is the first, the tick the second. This one shares nothing with the tick but the reading of
tags: no table, no bucket, no driver; so it holds while the tick fails, the table is throttled or a decision is wrong.
"""

import logging
from collections.abc import Iterable
from datetime import datetime

from control_plane.core.strays import is_overdue
from control_plane.ports import Fleet

logger = logging.getLogger(__name__)


def end_overdue(fleets: Iterable[Fleet], project: str, now: datetime) -> tuple[int, list[str]]:
    """Terminate every overdue instance of the project, region by region. How many there were, and what failed; the next round tries that again."""
    count = 0
    failures: list[str] = []
    for fleet in fleets:
        try:
            found, failed = _end_overdue_in(fleet, project, now)
        except Exception as error:
            logger.warning("a region could not be looked through", exc_info=True)
            found, failed = 0, [f"{type(error).__name__}: {str(error)[:200]}"]
        count, failures = count + found, failures + failed
    return count, failures


def _end_overdue_in(fleet: Fleet, project: str, now: datetime) -> tuple[int, list[str]]:
    overdue = [sight for sight in fleet.instances() if is_overdue(project, sight, now)]
    failures: list[str] = []
    for sight in overdue:
        try:
            state = fleet.terminate(sight.instance_id)
            logger.warning("overdue", extra={"instance_id": sight.instance_id, "state": state})
        except Exception as error:
            logger.warning("overdue instance not ended", extra={"instance_id": sight.instance_id}, exc_info=True)
            failures.append(f"{sight.instance_id}: {type(error).__name__}: {str(error)[:200]}")
    return len(overdue), failures
