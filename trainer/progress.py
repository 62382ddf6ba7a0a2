"""The progress file: one JSON line for each thing that happened, appended and flushed, read by the agent as it grows."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from jobspec.runfile import Progress, ProgressKind

Now = Callable[[], datetime]
MAX_MESSAGE = 2000


class ProgressLog:
    """Appends :class:`Progress` lines to ``path``; ``now`` gives aware times."""

    def __init__(self, path: Path, now: Now) -> None:
        self.path = path
        self._now = now

    def write(self, kind: ProgressKind, message: str = "", **fields: Any) -> Progress:
        """Append one line; a message longer than the contract allows is cut. Raises OSError on a full disk."""
        line = self._line(kind, message, fields)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            # A writer that was ended in the middle of a line must not spoil the next one.
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
        return line

    def _line(self, kind: ProgressKind, message: str, fields: dict[str, Any]) -> Progress:
        return Progress(kind=kind, at=self._now(), message=message[:MAX_MESSAGE], **fields)


class Silence(ProgressLog):
    """Of the ranks but the first: they take the same way, and one tells of it."""

    def write(self, kind: ProgressKind, message: str = "", **fields: Any) -> Progress:
        return self._line(kind, message, fields)
