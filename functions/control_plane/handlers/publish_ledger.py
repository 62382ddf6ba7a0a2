"""Door: the e-mail topic's second subscriber. Notes each published notice, so that a crash around Publish is no riddle."""

from typing import Any

from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_published


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    published = parse_published(event)
    if not published:
        return Ignored("no notice of a job's")
    doubled = sum(rooms.ledger.note(one.notice_id, one.message_id, rooms.now()) > 1 for one in published)
    return {"noted": len(published), "metrics": {"NoticesDoubled": doubled}}


handler = door(handle)
