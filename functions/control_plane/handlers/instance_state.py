"""Door: an instance changed its state. Hears every instance of the account."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.core.state import Job
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_state_event


def handle(event: Any, context: Any, rooms: Rooms) -> Job | Ignored | None:
    hint = parse_state_event(event)
    if isinstance(hint, Ignored):
        return hint
    job_id = rooms.driver.store.find(instance_id=hint.instance_id)
    return rooms.driver.drive(job_id, hint) if job_id else Ignored("not an instance of this project")


handler = door(handle, "driver")
