"""Door: every five minutes, on a schedule, a role and a code path that the tick does not share. See ``control_plane.curfew``."""

from typing import Any

from control_plane.curfew import end_overdue
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any]:
    return {"metrics": {"OverdueInstances": end_overdue(rooms.fleet, rooms.settings.project, rooms.now())}}


handler = door(handle)
