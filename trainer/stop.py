"""Stop requests: a ``stop`` file or SIGTERM. Both only raise a flag; the work looks at it where stopping is exact.

This file imports nothing that takes time, so that the process listens from its first moment.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType


class StopRequested(Exception):
    """A stop request was honoured; the message says what it found the trainer doing."""


class StopSignal:
    """Asked for once, asked for ever: a second SIGTERM changes nothing."""

    def __init__(self, stop_file: Path | None = None) -> None:
        self._stop_file = stop_file
        self._asked = False
        self._relay: Callable[[], object] | None = None

    def watch(self, stop_file: Path) -> None:
        """Take the existence of ``stop_file`` as a stop request."""
        self._stop_file = stop_file

    def listen(self) -> None:
        """Take SIGTERM as a stop request. Main thread only."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def relay(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` for a SIGTERM that came already, and for the next: this process waits for others that do the work."""
        self._relay = tell
        if self._asked:
            tell()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._relay is not None:
            self._relay()

    def asked(self) -> bool:
        """True once this process was asked to stop."""
        self._asked = self._asked or (self._stop_file is not None and self._stop_file.exists())
        return self._asked

    def requested(self) -> bool:
        """True once the work is to stop."""
        return self.asked()

    def check(self, doing: str) -> None:
        """Raises StopRequested where a stop was asked for; ``doing`` completes "stopped while ..."."""
        if self.requested():
            raise StopRequested(f"stopped while {doing}")
