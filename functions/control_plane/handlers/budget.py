"""Door: a budget alert on the bus, AWS's or the ledger's."""

from typing import Any

from control_plane.alerts import Alerts
from control_plane.core.events import Ignored
from control_plane.handlers.door import door
from control_plane.handlers.rooms import Rooms
from control_plane.parsers import parse_budget_event


def handle(event: Any, context: Any, rooms: Rooms) -> dict[str, Any] | Ignored:
    alert = parse_budget_event(event, rooms.settings.project)
    if isinstance(alert, Ignored):
        return alert
    facts = rooms.settings
    # Most alerts are the account's or the month's: the driver is opened for a job's own alone.
    alerts = Alerts(
        facts.project, rooms.now(), rooms.post, rooms.holds, rooms.spend, lambda job_id, hint: rooms.driver.drive(job_id, hint), facts.pause_on_budget
    )
    return {"did": alerts.take_up(alert)}


handler = door(handle)
