"""Writing documents as JSON and reading them again is half of a run's time, and nearly every text is read by this very run.

So in most worlds a document is stored as a slip with a number, and the reader is given the document that it stands for; they
are frozen, so one serves all. Completion markers, manifests and what is spoiled on purpose are texts in every world. One world
in sixteen stores and reads real texts only: were one read otherwise than it was written, that world would show it, as the
tests of the adapters and of the contract do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from control_plane.adapters import items
from control_plane.core.state import Job
from jobspec import wire
from jobspec.base import Document
from jobspec.heartbeat import Heartbeat
from jobspec.status import Status
from jobspec.ticket import StopOrder, Ticket

D = TypeVar("D", bound=Document)
_REAL = 16
_ON_SLIPS = (Heartbeat, Status, StopOrder, Ticket)


def job_of(item: dict[str, Any]) -> Job:
    """The job in an item of the table, as the adapter reads it."""
    return items.job_of(item)


@contextmanager
def on_slips(seed: int) -> Iterator[None]:
    """Within it the adapter stores jobs, and everyone stores documents, on slips."""
    if seed % _REAL == _REAL - 1:
        yield
        return
    before = items.document_of, items.job_of, wire.dump, wire.load
    known: dict[bytes | str, Document] = {}

    def document_of(job: Job) -> dict[str, Any]:
        slip = f"slip {len(known)}"
        known[slip] = job
        return {"body": {"S": slip}}

    def read_job(item: dict[str, Any]) -> Job:
        return cast(Job, known[item["body"]["S"]])

    def dump(document: Document) -> bytes:
        if not isinstance(document, _ON_SLIPS):
            return before[2](document)
        slip = b"slip %d" % len(known)
        known[slip] = document
        return slip

    def load(model: type[D], body: bytes) -> D:
        found = known.get(body)
        return found if isinstance(found, model) else before[3](model, body)

    items.document_of, items.job_of, wire.dump, wire.load = document_of, read_job, dump, load
    try:
        yield
    finally:
        items.document_of, items.job_of, wire.dump, wire.load = before
