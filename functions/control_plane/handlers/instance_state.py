"""Door: an instance changed its state. Hears every instance of the account."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.core.state import Job
from control_plane.handlers.door import door, driver
from control_plane.parsers import parse_state_event


@door
def handler(event: dict[str, Any], context: Any) -> Job | Ignored | None:
    hint = parse_state_event(event)
    if isinstance(hint, Ignored):
        return hint
    job_id = driver().store.find(instance_id=hint.instance_id)
    return driver().drive(job_id, hint) if job_id else Ignored("not an instance of this project")
