"""Door: a budget alert on the bus, AWS's or the ledger's."""

from typing import Any

from control_plane.alerts import take_up
from control_plane.core.events import Ignored
from control_plane.handlers.door import door, driver, holds, settings
from control_plane.parsers import parse_budget_event


@door
def handler(event: dict[str, Any], context: Any) -> dict[str, Any] | Ignored:
    alert = parse_budget_event(event, settings().project)
    return alert if isinstance(alert, Ignored) else {"did": take_up(alert, driver(), holds(), pause=settings().pause_on_budget)}
