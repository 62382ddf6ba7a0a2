"""A reading that serves others for a moment: of a tick's thousands of jobs that wait, one asks, and the rest hear what it was told."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from control_plane.ports import Clock

T = TypeVar("T")

#: Short beside the minute from one tick to the next, long beside the milliseconds that one job takes.
SERVES = timedelta(seconds=2)


class Recent(Generic[T]):
    """``read``'s last answer. Good enough to put something off by, not to act on: for that, ``anew``."""

    def __init__(self, read: Callable[[], T], now: Clock) -> None:
        self._read = read
        self._now = now
        self._known: tuple[datetime, T] | None = None

    def kept(self) -> T | None:
        """The answer, where it is younger than two seconds; nobody is asked."""
        known = self._known
        return known[1] if known is not None and self._now() - known[0] < SERVES else None

    def anew(self) -> T:
        at = self._now()
        answer = self._read()
        self._known = at, answer
        return answer

    def forget(self) -> None:
        """What was read is not so any more."""
        self._known = None
