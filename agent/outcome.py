"""An attempt's last words: the final files and the completion marker, written once."""

import logging
from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from agent.digests import NotAFile, digest_of, leaves, regular_files
from agent.settings import Folders
from agent.store import S3_ERRORS, Denied, Store
from jobspec.base import FileDigest
from jobspec.keys import logs_prefix, marker_key, run_prefix
from jobspec.marker import CompletionMarker, Failure, Outcome, Results
from jobspec.runfile import TrainerResults
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

FINAL = "final"
RESULTS = "results.json"
#: Of a longer log the end is uploaded: that is where the reason is.
MAX_LOG_BYTES = 8 * 1024 * 1024

log = logging.getLogger(__name__)


class NoResult(Exception):
    """The trainer says it completed, but what it left is not a result."""


class LastWords:
    def __init__(self, store: Store, ticket: Ticket, folders: Folders, now: Callable[[], datetime]) -> None:
        self._store = store
        self._ticket = ticket
        self._folders = folders
        self._now = now
        self._prefix = run_prefix(ticket.job_id, ticket.writer)

    def said(self) -> bool:
        """True if this attempt's marker is written. Whether it can be read is nobody's to mend: it is written once."""
        try:
            return self._store.read(self._ticket.outputs_bucket, marker_key(self._ticket.job_id, self._ticket.writer)) is not None
        except Denied as error:
            log.warning("whether a marker is there already is not known: %s", error)
            return False

    def result(self) -> tuple[Results, tuple[FileDigest, ...]]:
        """What the trainer measured and its final files, named below the run prefix. Raises NoResult."""
        folder = self._folders.run / FINAL
        try:
            if leaves(self._folders.run, folder / RESULTS):
                raise NotAFile("it leads out of the run folder")
            found = load(TrainerResults, (folder / RESULTS).read_bytes())
            files = tuple(digest_of(path, f"{FINAL}/{path.relative_to(folder)}") for path in regular_files(folder))
        except (OSError, UnreadableDocument, NotAFile) as error:
            raise NoResult(f"{FINAL}/{RESULTS}: {error}") from None
        except ValidationError as error:
            raise NoResult(f"{FINAL}/ has a file with a name that is not allowed: {error.errors()[0]['input']!r:.200}") from None
        results = Results.model_validate({name: getattr(found, name) for name in Results.model_fields})
        try:
            # The marker is written once: one that the control plane would refuse must never be.
            load(CompletionMarker, dump(self._marker(Outcome.COMPLETED, files=files, results=results)))
        except (ValidationError, UnreadableDocument) as error:
            raise NoResult(f"{FINAL}/ has {len(files)} files, and its list would be refused: {str(error).splitlines()[0]}") from None
        return results, files

    def upload_final(self, files: tuple[FileDigest, ...]) -> None:
        """Raises what S3 raises, Denied, NotAFile and NotAsDescribed."""
        for file in files:
            self._store.upload(self._ticket.outputs_bucket, self._prefix + file.path, self._folders.run / file.path, file, _go_on)

    def upload_logs(self) -> None:
        """The containers' logs and the progress lines. A log that S3 does not take is no reason to lose a result."""
        paths = [*sorted(self._folders.logs.glob("*.log")), self._folders.run / "progress.jsonl"]
        for path in paths:
            try:
                if path.is_file() and not path.is_symlink():
                    with path.open("rb") as file:
                        file.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
                        self._store.write(
                            self._ticket.outputs_bucket, logs_prefix(self._ticket.job_id, self._ticket.writer) + path.name, file.read(MAX_LOG_BYTES)
                        )
            except (Denied, *S3_ERRORS) as error:
                log.warning("%s not uploaded: %s", path.name, error)

    def mark(self, outcome: Outcome, *, files: tuple[FileDigest, ...] = (), results: Results | None = None, failure: Failure | None = None) -> None:
        """Write the marker. If one is there already it stands: an attempt has one last word. Raises Denied, and what S3 raises."""
        marker = self._marker(outcome, files=files, results=results, failure=failure)
        written = self._store.write_once(self._ticket.outputs_bucket, marker_key(self._ticket.job_id, self._ticket.writer), dump(marker))
        log.info("marker %s %s", outcome, "written" if written else "was written before; that one stands")

    def _marker(self, outcome: Outcome, *, files: tuple[FileDigest, ...], results: Results | None, failure: Failure | None = None) -> CompletionMarker:
        return CompletionMarker(
            job_id=self._ticket.job_id,
            attempt=self._ticket.attempt,
            instance_id=self._ticket.instance_id,
            outcome=outcome,
            at=self._now(),
            files=files,
            results=results,
            failure=failure,
        )


def _go_on() -> None:
    """The final files are uploaded whatever else is asked for: a finished job needs no other instance."""
