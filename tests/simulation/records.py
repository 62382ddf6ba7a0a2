"""Reading documents is a third of a run's time, and nearly every reading meets a text that this very run wrote: remembered here.

The writing is the real one, and what was never written through it (a manifest, a spoiled marker) is read as ever. Documents
are frozen, so one copy serves all readers. One world in sixteen remembers nothing: were a text to read otherwise than it was
written, that world would show it. The adapters have the memory only while a world runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from control_plane.adapters import dynamodb
from control_plane.core.state import Job
from jobspec import wire
from jobspec.base import Document

D = TypeVar("D", bound=Document)
_FORGETFUL = 16


def job_of(item: dict[str, Any]) -> Job:
    """The job in an item of the table, as the adapter reads it."""
    return dynamodb._job_of(item)


@contextmanager
def remembered(seed: int) -> Iterator[None]:
    """Within it the adapter reads jobs, and everyone reads documents, out of memory where it was written within it too."""
    if seed % _FORGETFUL == _FORGETFUL - 1:
        yield
        return
    item_of, job_of, dump, load = dynamodb._item_of, dynamodb._job_of, wire.dump, wire.load
    jobs: dict[Any, Job] = {}
    documents: dict[bytes, Document] = {}

    def remember_item(job: Job) -> dict[str, Any]:
        item = item_of(job)
        jobs[_text_of(item)] = job
        return item

    def recall_job(item: dict[str, Any]) -> Job:
        return jobs.get(_text_of(item)) or job_of(item)

    def remember_dump(document: Document) -> bytes:
        body = dump(document)
        documents[body] = document
        return body

    def recall(model: type[D], body: bytes) -> D:
        found = documents.get(body)
        return found if type(found) is model else load(model, body)

    dynamodb._item_of, dynamodb._job_of, wire.dump, wire.load = remember_item, recall_job, remember_dump, recall
    try:
        yield
    finally:
        dynamodb._item_of, dynamodb._job_of, wire.dump, wire.load = item_of, job_of, dump, load


def _text_of(item: dict[str, Any]) -> Any:
    return item["body"]["S"] if "body" in item else item["packed"]["B"]
