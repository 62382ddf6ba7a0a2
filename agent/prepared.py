"""The job's prepared rows: brought from an earlier attempt's prefix before training, published under this one's own.

They save a resumed attempt the work of tokenising, no more: whatever is missing, damaged or refused is only logged, and
the trainer prepares the rows again. It verifies what is brought once more, and that it is of this run's rows and settings.
"""

import logging
import shutil

from agent.alarms import Summoned
from agent.control import write_whole
from agent.digests import NotAFile, damage, leaves, sha256_of
from agent.resume import NotWhole, fetch_files
from agent.settings import Folders
from agent.store import S3_ERRORS, Absent, Check, Denied, NotAsDescribed, Store
from jobspec.keys import prepared_prefix
from jobspec.prepared import PREPARED_MANIFEST_NAME, PreparedManifest
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

#: sha256 of the manifest that is in S3 already: brought from there, or published by this instance.
KEPT_NAME = "prepared.sha256"

log = logging.getLogger(__name__)


class PreparedRows:
    """``check`` raises once the instance is asked to end."""

    def __init__(self, store: Store, ticket: Ticket, folders: Folders, check: Check) -> None:
        self._store, self._ticket, self._folders, self._check = store, ticket, folders, check
        self._place = folders.run / "prepared"
        self._kept = folders.control / KEPT_NAME

    def fetch(self) -> bool:
        """True where whole prepared rows of this job are in the run folder now. Raises Summoned."""
        for writer in (self._ticket.writer, *self._ticket.earlier_writers):
            prefix = prepared_prefix(self._ticket.job_id, writer)
            try:
                if self._take(prefix):
                    log.info("prepared rows of %s taken", prefix)
                    return True
            except (NotWhole, Absent, UnreadableDocument, *S3_ERRORS) as error:
                log.warning("prepared rows %s passed over: %s", prefix, error)
        return False

    def _take(self, prefix: str) -> bool:
        body = self._store.read(self._ticket.outputs_bucket, prefix + PREPARED_MANIFEST_NAME)
        if body is None:
            return False
        manifest = load(PreparedManifest, body)
        if manifest.job_id != self._ticket.job_id:
            raise NotWhole(f"they are of job {manifest.job_id}")
        if not (self._place.is_dir() and damage(self._place, manifest.files, self._check) is None):
            aside = self._folders.incoming / "prepared"
            fetch_files(self._store, self._ticket.outputs_bucket, prefix, manifest.files, aside, self._check)
            (aside / PREPARED_MANIFEST_NAME).write_bytes(dump(manifest))
            shutil.rmtree(self._place, ignore_errors=True)
            aside.replace(self._place)
        self._remember()
        return True

    def publish(self) -> None:
        """Put what the trainer prepared into S3, unless it is there: files first, then the manifest that makes them count."""
        path = self._place / PREPARED_MANIFEST_NAME
        if not path.is_file() or leaves(self._folders.run, path) or self._is_kept():
            return
        prefix = prepared_prefix(self._ticket.job_id, self._ticket.writer)
        try:
            manifest = load(PreparedManifest, path.read_bytes())
            for file in manifest.files:
                if leaves(self._place, self._place / file.path):
                    raise NotAsDescribed(f"{file.path} leads out of its folder")
                self._store.upload(self._ticket.outputs_bucket, prefix + file.path, self._place / file.path, file, self._check)
            self._store.write(self._ticket.outputs_bucket, prefix + PREPARED_MANIFEST_NAME, dump(manifest))
        except Summoned:
            return
        except (UnreadableDocument, NotAsDescribed, NotAFile, Denied) as error:
            log.warning("the prepared rows are not published: %s", error)
        self._remember()

    def _is_kept(self) -> bool:
        return self._kept.is_file() and self._kept.read_text(encoding="ascii").strip() == sha256_of(self._place / PREPARED_MANIFEST_NAME)

    def _remember(self) -> None:
        write_whole(self._kept, sha256_of(self._place / PREPARED_MANIFEST_NAME).encode())
