"""Door: a completion marker appeared. Its job is the one on record for the instance that wrote it, whatever it says."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.core.state import Job
from control_plane.handlers.door import door, driver, settings
from control_plane.parsers import parse_marker_event


@door
def handler(event: dict[str, Any], context: Any) -> Job | Ignored | None:
    marker = parse_marker_event(event, settings().outputs_bucket)
    if isinstance(marker, Ignored):
        return marker
    job_id = driver().store.find(instance_id=marker.instance_id)
    if job_id != marker.job_id:
        return Ignored(f"{marker.instance_id} is not on record for {marker.job_id}")
    return driver().drive(job_id)
