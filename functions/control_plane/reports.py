"""A job's page in the bucket, drawn anew after each change of its status. A convenience: no job waits for it, and none is harmed by it.

The event is only a hint: what is drawn is what the status object says *now*. The page's ETag is read before the status, and a page
replaces only that one: whoever was overtaken while drawing looks again, so an older drawing never stays over a newer one.
"""

from dataclasses import dataclass

from control_plane.core.events import Ignored
from control_plane.ports import Clock, Pages
from jobspec import keys, wire
from jobspec.status import Status
from pages.job import job_page
from pages.story import read_story

#: Of each attempt's progress lines the newest so many bytes, some thousand lines; ``pages.story`` bounds the attempts.
MAX_LINES_BYTES = 512 * 1024
#: Drawings that were all overtaken; the event is then delivered again.
TRIES = 4


class Overtaken(Exception):
    """Others went on replacing the page."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Draws pages of the jobs of one stack. ``role_id``: the instance role's, which is in the names that instances write under."""

    pages: Pages
    clock: Clock
    data_bucket: str
    outputs_bucket: str
    role_id: str

    def draw(self, name: str) -> str | Ignored:
        """Draw the page of the newest job of that name; its key. Raises Overtaken, and passing faults."""
        for _ in range(TRIES):
            etag = self.pages.etag(self.data_bucket, keys.report_key(name))
            body = self.pages.last_bytes(self.data_bucket, keys.status_key(name), "", wire.MAX_DOCUMENT_BYTES + 1)
            if body is None:
                return Ignored("there is no such status")
            try:
                status = wire.load(Status, body)
            except wire.UnreadableDocument:
                return Ignored("the status is not one of ours")
            if self.pages.replace(self.data_bucket, keys.report_key(name), self._page(status), etag):
                return keys.report_key(name)
        raise Overtaken(f"{keys.report_key(name)}: {TRIES} drawings were overtaken")

    def _page(self, status: Status) -> bytes:
        writers = [keys.writer_of(self.role_id, attempt.instance_id) for attempt in status.attempts if attempt.instance_id]
        return job_page(read_story(status, self.outputs_bucket, writers, self._read), self.clock()).encode("utf-8", "replace")

    def _read(self, bucket: str, key: str, version: str, max_bytes: int) -> bytes | None:
        """Only what a page is made of, wherever the status says that the manifest lies: that in its version, and lines of runs."""
        manifest = bucket == self.data_bucket and key.startswith(keys.MANIFEST_PREFIX) and version
        if not manifest and not (bucket == self.outputs_bucket and key.startswith(keys.RUN_PREFIX)):
            return None
        return self.pages.last_bytes(bucket, key, version, min(max_bytes, MAX_LINES_BYTES))
