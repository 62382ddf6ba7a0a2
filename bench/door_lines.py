"""What the doors of the local cloud say of themselves: how long each invocation took by its own log line, and whether its process had just started."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from dropforge.local.printed import entries

#: The door of each transition, as its function's name begins after the stack's.
DOORS = {"manifest to launch": "SubmitFunction", "warning to replacement": "InterruptionFunction", "marker to end": "CompletionFunction"}


@dataclass(frozen=True, slots=True)
class Doors:
    """Milliseconds that invocations took, in processes that were there and in new ones."""

    warm: list[float]
    cold: list[float]

    def told(self) -> str:
        told = [f"{len(took)} {kind}: {shares(took, 0)} ms" for kind, took in (("warm", self.warm), ("just started", self.cold)) if took]
        return "the door itself, " + "; ".join(told) if told else "no line of the door"


def doors(home: Path, since: float) -> dict[str, Doors]:
    """Of each transition, what its door logged from then on; what it ignored left out. Raises SystemExit if any function failed."""
    found = {name: Doors([], []) for name in DOORS}
    for entry in entries(home, None, follow=False):
        if entry["at"] < since:
            continue
        if entry["error"]:
            raise SystemExit(f"{entry['function']} failed; nothing is reported: {entry['lines'][-1:]}")
        for line in (json.loads(line) for line in entry["lines"] if '"took_ms"' in line):
            for name, door in DOORS.items():
                if door in entry["function"] and line["outcome"] != "ignored":
                    (found[name].cold if line["cold_start"] else found[name].warm).append(line["took_ms"])
    return found


def share(values: list[float], part: float) -> float:
    """The value that this part of all does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


def shares(values: list[float], digits: int = 2) -> str:
    return ", ".join(f"{name} {share(values, part):.{digits}f}" for name, part in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)))
