"""Door: a person pauses or resumes the project's launches. See ``jobspec.operator``."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from jobspec.operator import NotARequest, parse_request


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    try:
        request = parse_request(event, rooms.settings.project)
    except NotARequest as problem:
        return Ignored(str(problem))
    if request.is_stale(rooms.now()):
        return Ignored(f"asked at {request.asked_at:%Y-%m-%d %H:%M} UTC: nobody waits for it any more")
    if request.is_older_than(rooms.holds.current()):
        return Ignored("a newer pause is in force")
    rooms.holds.put(request.hold())
    return {"did": request.action, "asked_by": request.asked_by}


handler = door(handle)
