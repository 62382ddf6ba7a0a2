"""The heartbeat: what is known of this attempt, written to S3 at each beat and at each change of phase."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from agent.store import S3_ERRORS, Denied, Store
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.keys import heartbeat_key
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

log = logging.getLogger(__name__)


def read_heartbeat(store: Store, bucket: str, job_id: str, writer: str) -> Heartbeat | None:
    """A writer's last heartbeat, or None where there is none or it cannot be read."""
    try:
        body = store.read(bucket, heartbeat_key(job_id, writer))
        return None if body is None else load(Heartbeat, body)
    except (UnreadableDocument, Denied) as error:
        log.warning("heartbeat of %s: %s", writer, error)
        return None


class Heart:
    """``earlier``: this writer's last heartbeat, when the agent was ended and started again; its ``seq`` goes on."""

    def __init__(self, store: Store, ticket: Ticket, now: Callable[[], datetime], earlier: Heartbeat | None = None) -> None:
        self._store = store
        self._ticket = ticket
        self._now = now
        self._lock = threading.Lock()
        #: Held while S3 is written to, which may take minutes: whoever only notes a fact must not wait for that.
        self._writing = threading.Lock()
        #: What earlier processes of this attempt have moved.
        self._moved = (earlier.read_bytes, earlier.written_bytes) if earlier is not None else (0, 0)
        self._state = earlier or Heartbeat(job_id=ticket.job_id, attempt=ticket.attempt, instance_id=ticket.instance_id, seq=0, at=now(), phase=Phase.STAGING)

    def note(self, **facts: Any) -> None:
        """Remember facts for the next beat. Facts that the model refuses are an error of the caller."""
        with self._lock:
            self._state = Heartbeat.model_validate({**dict(self._state), **facts})

    def note_stage(self, name: str, seconds: float) -> None:
        """Adds to what an earlier process of this attempt spent in the same stage."""
        with self._lock:
            stages_s = self._state.stages_s
            self._state = self._state.model_copy(update={"stages_s": {**stages_s, name: round(stages_s.get(name, 0.0) + max(seconds, 0.0), 3)}})

    def beat(self) -> None:
        """Write the heartbeat. A beat that S3 does not take is lost, not fatal: the next one says the same and more."""
        with self._writing:
            with self._lock:
                self._state = state = self._state.model_copy(update={"seq": self._state.seq + 1, "at": self._now(), **self._traffic()})
            try:
                self._store.write(self._ticket.outputs_bucket, heartbeat_key(self._ticket.job_id, self._ticket.writer), dump(state))
            except (Denied, *S3_ERRORS) as error:
                log.warning("heartbeat %d not written: %s", state.seq, error)

    def _traffic(self) -> dict[str, int]:
        read, written = self._moved
        return {"read_bytes": read + self._store.read_bytes, "written_bytes": written + self._store.written_bytes}

    def enter(self, phase: Phase, message: str = "") -> None:
        """Change the phase and say so at once."""
        log.info("phase %s %s", phase, message)
        self.note(phase=phase, message=message[:2000])
        self.beat()

    @property
    def state(self) -> Heartbeat:
        return self._state
