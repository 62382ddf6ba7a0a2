"""The third stop: ends instances that are past the deadline in their own tags, whatever became of the rest of us.

The instance's own timer is the first, the tick the second. This one shares nothing with the tick but the reading of
tags: no table, no bucket, no driver; so it holds while the tick fails, the table is throttled or a decision is wrong.
"""

import logging
from datetime import datetime

from control_plane.core.strays import is_overdue
from control_plane.ports import Fleet

logger = logging.getLogger(__name__)


def end_overdue(fleet: Fleet, project: str, now: datetime) -> tuple[int, list[str]]:
    """Terminate every overdue instance of the project. How many there were, and what failed; the next round tries that again."""
    overdue = [sight for sight in fleet.instances() if is_overdue(project, sight, now)]
    failures = []
    for sight in overdue:
        try:
            state = fleet.terminate(sight.instance_id)
            logger.warning("overdue", extra={"instance_id": sight.instance_id, "state": state})
        except Exception as error:
            logger.warning("overdue instance not ended", extra={"instance_id": sight.instance_id}, exc_info=True)
            failures.append(f"{sight.instance_id}: {type(error).__name__}: {str(error)[:200]}")
    return len(overdue), failures
