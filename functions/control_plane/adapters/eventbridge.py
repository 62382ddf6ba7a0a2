"""The default event bus on EventBridge."""

import json
from typing import Any

from control_plane.adapters.errors import BusRefused


class EventBridgeBus:
    """The Bus port over a boto3 ``events`` client."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def put(self, *, source: str, detail_type: str, detail: dict[str, object]) -> None:
        """Raises BusRefused: PutEvents answers 200 even where it took nothing."""
        entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail, allow_nan=False)}
        answer = self._events.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            raise BusRefused(f"EventBridge did not take {detail_type!r} of {source}: {failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")
