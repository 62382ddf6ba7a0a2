"""The e-mail topic and the event bus in memory: what was sent can be read again."""

import json
from dataclasses import dataclass
from typing import Any

from control_plane.adapters.letters import refuse_unsendable
from control_plane.ports import Letter


class MemoryPost:
    """The Post port; ``letters`` in the order of publication."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    def publish(self, letter: Letter) -> None:
        refuse_unsendable(letter)
        self.letters.append(letter)


@dataclass(frozen=True, slots=True)
class BusEvent:
    source: str
    detail_type: str
    detail: dict[str, Any]


class MemoryBus:
    """The Bus port; ``events`` in order, each detail as JSON would bring it to a rule's target."""

    def __init__(self) -> None:
        self.events: list[BusEvent] = []

    def put(self, *, source: str, detail_type: str, detail: dict[str, object]) -> None:
        self.events.append(BusEvent(source, detail_type, json.loads(json.dumps(detail, allow_nan=False))))
