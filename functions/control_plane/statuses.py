"""The status object of a name, written so that its newest job's newest word stands; and the receipt, which stays when the name goes on.

Two drivers may write at one time, and a write may land after its caller gave it up: an old status must not stay for ever. So each
write holds only while the object is the one that was read, or that this process itself wrote last: an ETag stands for one content.
"""

from datetime import datetime
from typing import NamedTuple

from control_plane.core.report import StackFacts, status_of
from control_plane.core.state import Job
from control_plane.ports import Objects, StaleVersion
from jobspec import keys, wire
from jobspec.status import Status

#: Writes that others may outrun before the job is given back to be driven again; each time someone made progress.
MAX_OUTRUN = 8
#: Objects of which is remembered what was written last, some three hundred bytes each.
_MOST_NOTED = 10_000

Age = tuple[datetime, str, int]


class Seen(NamedTuple):
    """An object by its ETag. ``age`` of the status in it; None where that cannot be read: somebody's mistake, which is written over."""

    etag: str
    age: Age | None

    def is_before(self, age: Age) -> bool:
        return self.age is None or self.age < age


class Statuses:
    """Writes the status objects in the data bucket."""

    def __init__(self, objects: Objects, stack: StackFacts) -> None:
        self._objects = objects
        self.stack = stack
        #: By key, what this process wrote last: it is asked for again only where somebody else has written since.
        self._last: dict[str, Seen] = {}

    def write(self, job: Job, now: datetime, *, last: bool) -> None:
        """Put the job's status, unless a newer one is there; its receipt as well where this is the ``last``. Raises StaleVersion where outrun too often."""
        status = status_of(job, self.stack, now)
        self._put_unless_newer(keys.refused_key(job.name) if job.refused_beside is not None else keys.status_key(job.name), status)
        if last and job.attempts:
            # The status object is the name's; this stays when a later job of that name takes it over.
            self._objects.put(self.stack.data_bucket, keys.receipt_key(job.accepted_at, job.job_id), wire.dump(status))

    def _put_unless_newer(self, key: str, status: Status) -> None:
        seen = self._last.pop(key, None)
        if seen is None or not seen.is_before(status.age):
            seen = self._read(key)
        for _ in range(MAX_OUTRUN):
            if seen is not None and not seen.is_before(status.age):
                return
            etag = self._objects.replace(self.stack.data_bucket, key, wire.dump(status), seen.etag if seen is not None else None)
            if etag is not None:
                self._note(key, Seen(etag, status.age))
                return
            seen = self._read(key)
        raise StaleVersion(f"{key}: outrun {MAX_OUTRUN} times in a row")

    def _read(self, key: str) -> Seen | None:
        found = self._objects.get(self.stack.data_bucket, key, max_bytes=wire.MAX_DOCUMENT_BYTES)
        return None if found is None else Seen(found.etag, age_of(found.body))

    def _note(self, key: str, seen: Seen) -> None:
        if len(self._last) >= _MOST_NOTED:
            self._last.clear()
        self._last[key] = seen


def age_of(body: bytes) -> Age | None:
    try:
        return wire.load(Status, body).age
    except wire.UnreadableDocument:
        return None
