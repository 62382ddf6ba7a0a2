"""The status object of a name, written so that its newest job's newest word stands; and the receipt, which stays when the name goes on."""

from datetime import datetime

from control_plane.core.report import StackFacts, status_of
from control_plane.core.state import Job
from control_plane.ports import Objects, StaleVersion
from jobspec import keys, wire
from jobspec.status import Status

#: Writes that others may outrun before the job is given back to be driven again; each time someone made progress.
MAX_OUTRUN = 8


def write_status(objects: Objects, job: Job, stack: StackFacts, now: datetime, *, last: bool) -> None:
    """Put the job's status, unless a newer one is there; its receipt as well where this is the ``last``. Raises StaleVersion where outrun too often.

    Two drivers may write at one time, and a write may land after its caller gave it up: an old status must not stay for ever.
    """
    status = status_of(job, stack, now)
    _put_unless_newer(objects, stack.data_bucket, keys.refused_key(job.name) if job.refused_beside is not None else keys.status_key(job.name), status)
    if last and job.attempts:
        # The status object is the name's; this stays when a later job of that name takes it over.
        objects.put(stack.data_bucket, keys.receipt_key(job.accepted_at, job.job_id), wire.dump(status))


def _put_unless_newer(objects: Objects, bucket: str, key: str, status: Status) -> None:
    for _ in range(MAX_OUTRUN):
        found = objects.get(bucket, key, max_bytes=wire.MAX_DOCUMENT_BYTES)
        if found is not None and _is_newer(found.body, status):
            return
        if objects.replace(bucket, key, wire.dump(status), found.etag if found is not None else None):
            return
    raise StaleVersion(f"{key}: outrun {MAX_OUTRUN} times in a row")


def _is_newer(body: bytes, status: Status) -> bool:
    """The stored status is at least as new. One that cannot be read is somebody's mistake, and is written over."""
    try:
        return wire.load(Status, body).age >= status.age
    except wire.UnreadableDocument:
        return False
