"""Door: a manifest was put into, or deleted from, the data bucket."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.core.state import Job
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_manifest_event
from control_plane.submission import Submission


def handle(event: Any, context: Any, rooms: Rooms) -> Job | Ignored:
    touched = parse_manifest_event(event, rooms.settings.data_bucket)
    return touched if isinstance(touched, Ignored) else Submission(rooms.driver, rooms.settings.read_buckets).look_at(touched.bucket, touched.key)


handler = door(handle, "driver")
