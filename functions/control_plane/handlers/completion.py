"""Door: a completion marker appeared. Its job is the one on record for the instance that wrote it, whatever it says."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.core.state import Job
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_marker_event


def handle(event: Any, context: Any, rooms: Rooms) -> Job | Ignored | None:
    marker = parse_marker_event(event, rooms.settings.outputs_bucket)
    if isinstance(marker, Ignored):
        return marker
    job_id = rooms.driver.store.find(instance_id=marker.instance_id)
    if job_id != marker.job_id:
        return Ignored(f"{marker.instance_id} is not on record for {marker.job_id}")
    return rooms.driver.drive(job_id)


handler = door(handle, "driver")
