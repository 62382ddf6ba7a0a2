"""Publishes the trainer's checkpoints in S3: the files, then ``checkpoint.json``, which makes it one. In the background.

Only the newest is worth the bandwidth: one that a newer one has overtaken is given up when time presses. An older
one in S3 is deleted only after a newer one is published, its manifest first, so that half of one never looks whole.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime

from agent.control import write_whole
from agent.digests import NotAFile, leaves
from agent.resume import brought, manifest_sha256
from agent.settings import Folders
from agent.store import Check, NotAsDescribed, Store
from jobspec.checkpoint import CheckpointManifest
from jobspec.heartbeat import PublishedCheckpoint
from jobspec.keys import CHECKPOINT_MANIFEST_NAME, checkpoint_prefix, checkpoint_step, checkpoints_prefix
from jobspec.saves import UPLOADED_NAME, Uploaded
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

_FOLDER = re.compile(r"step-(\d{8,})")
_STEP_IN_KEY = re.compile(r"step-(\d{8,})/")

log = logging.getLogger(__name__)


class Overtaken(Exception):
    """A newer checkpoint is on the disk and time presses: this upload is given up."""


class Uploader:
    """``after``: called once a checkpoint is published, for the heartbeat."""

    def __init__(self, store: Store, ticket: Ticket, folders: Folders, now: Callable[[], datetime], after: Callable[[PublishedCheckpoint], None]) -> None:
        self._store = store
        self._ticket = ticket
        self._folders = folders
        self._local = folders.run / "checkpoints"
        self._now = now
        self._after = after
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._unusable: set[str] = set()
        self._published: set[int] | None = None
        self.upload_s = 0.0

    def turn(self) -> None:
        """Publish the newest local checkpoint, if it is not in S3. Raises what S3 raises; the next turn tries again."""
        with self._lock:
            for step in self._to_publish():
                try:
                    self._publish(step)
                except Overtaken:
                    log.info("upload of step %d given up for a newer one", step)
                    return
                except (FileNotFoundError, NotAFile, NotAsDescribed, UnreadableDocument) as error:
                    # Pruned by the trainer meanwhile, or damaged: not this one, ever; what S3 holds stays.
                    log.warning("checkpoint of step %d not published: %s", step, error)
                    self._unusable.add(manifest_sha256(self._local, step))
                    continue
                return

    def last(self) -> None:
        """The newest local checkpoint, before anything else; what is on its way and older is given up."""
        self._hurry.set()
        self.turn()

    def _local_steps(self) -> list[int]:
        """Steps of the checkpoints on the disk, newest first; a folder without a manifest is none."""
        if not self._local.is_dir():
            return []
        found = [(match, path) for path in self._local.iterdir() if (match := _FOLDER.fullmatch(path.name))]
        return sorted((int(match[1]) for match, path in found if (path / CHECKPOINT_MANIFEST_NAME).is_file()), reverse=True)

    def _to_publish(self) -> list[int]:
        floor = max(self._known(), default=-1)
        passed_over = self._unusable | brought(self._folders)
        return [step for step in self._local_steps() if step > floor and manifest_sha256(self._local, step) not in passed_over]

    def _known(self) -> set[int]:
        """Steps that are in S3 under this writer, listed once and kept up since."""
        if self._published is None:
            prefix = checkpoints_prefix(self._ticket.job_id, self._ticket.writer)
            listed = (checkpoint_step(found.key) for found in self._store.list(self._ticket.outputs_bucket, prefix))
            self._published = {step for step in listed if step is not None}
        return self._published

    def _publish(self, step: int) -> None:
        started = time.monotonic()
        folder = self._local / f"step-{step:08d}"
        if leaves(self._local, folder / CHECKPOINT_MANIFEST_NAME):
            raise NotAFile(f"{folder.name} leads out of the run folder")
        manifest = load(CheckpointManifest, (folder / CHECKPOINT_MANIFEST_NAME).read_bytes())
        prefix = checkpoint_prefix(self._ticket.job_id, self._ticket.writer, step)
        check = self._overtaken(step)
        for file in manifest.files:
            check()
            if leaves(folder, folder / file.path):
                raise NotAFile(f"{file.path} leads out of its checkpoint")
            self._store.upload(self._ticket.outputs_bucket, prefix + file.path, folder / file.path, file, check)
        self._store.write(self._ticket.outputs_bucket, prefix + CHECKPOINT_MANIFEST_NAME, dump(manifest))
        self.upload_s = time.monotonic() - started
        log.info("checkpoint of step %d published in %.1f s", step, self.upload_s)
        self._known().add(step)
        self._tell_trainer(Uploaded(step=step, bytes=sum(file.size for file in manifest.files), seconds=self.upload_s))
        self._after(PublishedCheckpoint(key=prefix + CHECKPOINT_MANIFEST_NAME, step=step, at=self._now()))
        if not self._hurry.is_set():
            self._prune()

    def _tell_trainer(self, uploaded: Uploaded) -> None:
        try:
            write_whole(self._folders.run / UPLOADED_NAME, dump(uploaded))
        except OSError as error:  # it only reckons worse then
            log.warning("the trainer is not told what the upload took: %s", error)

    def _overtaken(self, step: int) -> Check:
        def check() -> None:
            if self._hurry.is_set() and max(self._local_steps(), default=step) > step:
                raise Overtaken

        return check

    def _prune(self) -> None:
        """Delete this writer's checkpoints older than the newest ``keep``, and leavings of uploads that never ended."""
        kept = sorted(self._known(), reverse=True)[: self._ticket.manifest.checkpoint.keep]
        prefix = checkpoints_prefix(self._ticket.job_id, self._ticket.writer)
        listed = [found.key for found in self._store.list(self._ticket.outputs_bucket, prefix)]
        old = [key for key in listed if (match := _STEP_IN_KEY.match(key.removeprefix(prefix))) and int(match[1]) < kept[0] and int(match[1]) not in kept]
        for key in sorted(old, key=lambda key: not key.endswith("/" + CHECKPOINT_MANIFEST_NAME)):
            self._store.delete(self._ticket.outputs_bucket, key)
        self._published = set(kept)
