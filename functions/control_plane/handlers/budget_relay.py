"""Door: AWS Budgets' plain-text mail, over SNS. Parsed, and put on the bus as an event of our own."""

from typing import Any

from control_plane.core.budget import DETAIL_TYPE, SOURCE, parse_budget_mail
from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_mails


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    mails = parse_mails(event)
    for mail in mails:
        alert = parse_budget_mail(rooms.settings.project, mail.subject, mail.message)
        rooms.bus.put(source=SOURCE, detail_type=DETAIL_TYPE, detail=alert.model_dump())
    return {"relayed": len(mails)} if mails else Ignored("not an SNS event")


handler = door(handle)
