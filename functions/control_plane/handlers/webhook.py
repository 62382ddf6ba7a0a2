"""Door: what the e-mail topic says is posted to a webhook: Slack, Teams, or an endpoint of one's own. There only where the stack was given one."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_told


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    told = parse_told(event)
    for one in told:
        rooms.webhook.post(one)
    return {"posted": len(told)} if told else Ignored("not an SNS event")


handler = door(handle)
