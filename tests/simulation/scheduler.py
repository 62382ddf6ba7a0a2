"""Time and turns: one heap of things to come, and processes that give up their turn at every call.

Single-threaded. A process is a greenlet, so that the real, synchronous code of the control plane can be stopped in the
middle of a call and another can run before it goes on. The order is a function of the seed alone.
"""

import heapq
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet


class Scheduler:
    """``now`` is simulated seconds since the start."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = 0
        self._hub = getcurrent()
        self._horizon_s = 0.0

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Run ``work`` after some seconds; things of one moment run in the order in which they were asked for."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, work))

    def spawn(self, work: Callable[[], Any]) -> greenlet:
        """A process, started in its turn."""
        process = greenlet(work, parent=self._hub)
        self.later(0.0, process.switch)
        return process

    def pause(self, seconds: float) -> None:
        """Called by a process: let others run, and go on after some seconds. Where nobody else is due by then, it just goes on."""
        at = self.now + seconds
        if (not self._heap or at < self._heap[0][0]) and at <= self._horizon_s:
            self.now = at
            return
        self.later(seconds, getcurrent().switch)
        self._hub.switch()

    def run(self, until: Callable[[], bool], horizon_s: float) -> None:
        """Run until ``until()`` is true, nothing is left to do, or the horizon is reached."""
        self._horizon_s = horizon_s
        while self._heap and not until():
            at, _, work = heapq.heappop(self._heap)
            if at > horizon_s:
                self.now = horizon_s
                return
            self.now = at
            work()
