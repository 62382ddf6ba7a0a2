"""Door: a budget alert on the bus, AWS's or the ledger's."""

from typing import Any

from control_plane.alerts import take_up
from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_budget_event


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    alert = parse_budget_event(event, rooms.settings.project)
    return alert if isinstance(alert, Ignored) else {"did": take_up(alert, rooms.driver, rooms.holds, rooms.spend, pause=rooms.settings.pause_on_budget)}


handler = door(handle)
