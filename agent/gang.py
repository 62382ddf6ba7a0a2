"""The other instances of a gang, as S3 tells this one of them.

The trainers speak to each other; the agents do not. The leader's marker is the attempt's, so every other agent ends with the leader's
last word; and a member that cannot take part says so in a marker of its own, which the leader makes its own.
"""

import logging

from agent.control import write_whole
from agent.heart import read_heartbeat
from agent.settings import Folders
from agent.store import S3_ERRORS, Denied, Store
from jobspec.heartbeat import Phase
from jobspec.keys import marker_key
from jobspec.marker import CompletionMarker, Failure, Outcome
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, load

#: Whom the trainer may reach, for bootstrap.sh: an address a line.
GANG_NAME = "gang"

log = logging.getLogger(__name__)


class GangView:
    """What this instance knows of the others. Of an instance that trains alone: that it leads, and that nobody failed."""

    def __init__(self, store: Store, ticket: Ticket) -> None:
        self._store, self._ticket = store, ticket
        self._failure: Failure | None = None

    @property
    def is_one(self) -> bool:
        return self._ticket.gang is not None

    @property
    def leads(self) -> bool:
        return self._ticket.gang is None or self._ticket.gang.rank == 0

    def name_addresses(self, folders: Folders) -> None:
        """Tell bootstrap.sh whom the trainer may reach. It does so for nobody else's trainer."""
        if self._ticket.gang is not None:
            write_whole(folders.control / GANG_NAME, "".join(f"{address}\n" for address in self._ticket.gang.addresses).encode())

    def look(self) -> None:
        """For the leader: whether a member has failed."""
        if self._ticket.gang is None or not self.leads or self._failure is not None:
            return
        for rank, writer in enumerate(self._ticket.gang.members[1:], start=1):
            marker = self._marker(writer)
            if marker is not None and marker.outcome is Outcome.FAILED and marker.failure is not None:
                message = f"instance {rank} of {self._ticket.gang.size}: {marker.failure.message}"[:2000]
                self._failure = Failure(code=marker.failure.code, message=message)

    def failure(self) -> Failure | None:
        """Why a member cannot take part."""
        return self._failure

    def last_word(self) -> Phase | None:
        """The leader's: FINISHED or HANDED_OVER, or None while it has said none."""
        gang = self._ticket.gang
        assert gang is not None
        if self._marker(gang.members[0]) is not None:
            return Phase.FINISHED
        heartbeat = read_heartbeat(self._store, self._ticket.outputs_bucket, self._ticket.job_id, gang.members[0])
        return heartbeat.phase if heartbeat is not None and heartbeat.phase in (Phase.FINISHED, Phase.HANDED_OVER) else None

    def _marker(self, writer: str) -> CompletionMarker | None:
        try:
            body = self._store.read(self._ticket.outputs_bucket, marker_key(self._ticket.job_id, writer))
            return None if body is None else load(CompletionMarker, body)
        except (UnreadableDocument, Denied, *S3_ERRORS) as error:
            log.warning("marker of %s: %s", writer, error)
            return None
