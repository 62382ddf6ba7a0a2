"""What asks this instance to end: an interruption notice, a stop order, the deadline. Once heard, never forgotten."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.imds import Imds
from agent.store import S3_ERRORS, Denied, Store
from jobspec.heartbeat import Notice
from jobspec.keys import stop_key
from jobspec.ticket import StopOrder, Ticket
from jobspec.wire import UnreadableDocument, load

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why and by when the instance must have said its last word. ``interrupted``: the job goes on elsewhere."""

    reason: str
    before: datetime
    interrupted: bool


class Summoned(Exception):
    """Raised out of long work (a download, a wait) once the instance is asked to end."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class Alarms:
    """``margin_s`` gives the seconds that a last save and its upload need, as far as measured."""

    def __init__(self, ticket: Ticket, imds: Imds, store: Store, now: Callable[[], datetime], margin_s: Callable[[], float]) -> None:
        self._ticket = ticket
        self._imds = imds
        self._store = store
        self._now = now
        self._margin_s = margin_s
        self._notice: Notice | None = None
        self._order: StopOrder | None = None

    @property
    def notice(self) -> Notice | None:
        """For the heartbeat: an interruption if there was one, else a rebalance recommendation."""
        return self._notice

    def look_at_imds(self) -> bool:
        """Ask for notices; True where one is new."""
        if self._notice is not None and self._notice.kind == "interruption":
            return False
        found = self._imds.interruption()
        if found is None and self._notice is None:
            # A recommendation promises nothing: it is told in the heartbeat, and the saves by interval go on.
            found = self._imds.rebalance()
        if found is None:
            return False
        log.info("%s notice for %s", found.kind, found.at)
        self._notice = found
        return True

    def look_for_order(self) -> None:
        """Read the stop order; what cannot be read now is read at the next heartbeat."""
        if self._order is not None:
            return
        try:
            body = self._store.read(self._ticket.data_bucket, stop_key(self._ticket.writer))
            if body is not None:
                order = load(StopOrder, body)
                if (order.job_id, order.attempt) == (self._ticket.job_id, self._ticket.attempt):
                    log.info("stop order: %s", order.reason)
                    self._order = order
        except UnreadableDocument as error:
            log.warning("stop order passed over: %s", error)
        except (Denied, *S3_ERRORS) as error:
            log.warning("stop order not read: %s", error)

    def ending(self) -> Ending | None:
        """The end that is asked for now, if any. An order comes first: most often the job goes on nowhere after it."""
        deadline = self._ticket.deadline_at
        if self._order is not None:
            return Ending(self._order.reason, min(self._order.terminate_at, deadline), interrupted=self._order.hand_over)
        if self._notice is not None and self._notice.kind == "interruption":
            return Ending(f"EC2 interrupts this instance at {self._notice.at:%H:%M:%S} UTC", min(self._notice.at, deadline), interrupted=True)
        if self._now() + timedelta(seconds=self._margin_s()) >= deadline:
            return Ending(f"the deadline {deadline:%Y-%m-%d %H:%M:%S} UTC is near", deadline, interrupted=False)
        return None

    def check(self) -> None:
        """Raises Summoned where an end is asked for."""
        ending = self.ending()
        if ending is not None:
            raise Summoned(ending)


class Routine(threading.Thread):
    """Calls ``turn`` every ``every_s`` seconds until ended; an error of one turn is logged and does not end the routine."""

    def __init__(self, name: str, every_s: float, turn: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._every_s = every_s
        self._turn = turn
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._turn()
            except Exception:
                # A watch that ends on its first surprise would miss the notice; the next turn tries again.
                log.exception("%s: one turn failed", self.name)
            self._over.wait(self._every_s)

    def end(self) -> None:
        self._over.set()
