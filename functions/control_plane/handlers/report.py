"""Door: a job's status was written. Its page is drawn anew."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_status_event
from control_plane.reports import Reports


def handle(event: Any, context: Any, rooms: Rooms) -> Ignored | dict[str, Any]:
    facts = rooms.settings
    name = parse_status_event(event, facts.data_bucket)
    if isinstance(name, Ignored):
        return name
    drawn = Reports(rooms.pages, rooms.now, facts.data_bucket, facts.outputs_bucket, facts.instance_role_id).draw(name)
    return drawn if isinstance(drawn, Ignored) else {"page": drawn}


handler = door(handle)
