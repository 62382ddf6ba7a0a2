"""Door: every five minutes, on a schedule, a role and a code path that the tick does not share. See ``control_plane.curfew``."""

from typing import Any

from control_plane.curfew import end_overdue
from control_plane.handlers.door import PartlyDone, door
from control_plane.handlers.rooms import Rooms


class NotEnded(PartlyDone):
    """Some overdue instances could not be asked to end."""


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any]:
    overdue, failures = end_overdue(rooms.fleets.parts(), rooms.settings.project, rooms.now())
    counts = {"OverdueInstances": overdue}
    if failures:
        raise NotEnded(failures, counts)
    # A zero stays in the log: it would be a metric that is sent, and billed, for ever.
    return {"metrics": counts} if overdue else dict(counts)


handler = door(handle)
