"""Finds the newest checkpoint that is whole, of this job, and puts it where the trainer looks for one.

Only the ticket's writers are looked at, never a prefix of the job's. A checkpoint whose manifest or files are not what
they should be is passed over for the one before. The one before the newest whole one comes along where that is cheap:
should the trainer refuse the newest, it need not start anew.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.control import write_whole
from agent.digests import NotAFile, damage, sha256_of
from agent.settings import Folders
from agent.store import Absent, Check, Denied, Store
from jobspec.base import Document, FileDigest, Sha256
from jobspec.checkpoint import CheckpointManifest
from jobspec.keys import CHECKPOINT_MANIFEST_NAME, checkpoint_folder, checkpoint_step, checkpoints_prefix
from jobspec.ticket import Ticket
from jobspec.wire import UnreadableDocument, dump, load

#: A fallback larger than this would delay the start more than it is worth.
CHEAP_BYTES = 2 * 1024**3
BROUGHT_NAME = "brought.json"

log = logging.getLogger(__name__)


class NotWhole(Exception):
    """Why a checkpoint in S3 cannot be used."""


@dataclass(frozen=True, slots=True)
class Candidate:
    step: int
    prefix: str


class Brought(Document):
    """sha256 of the manifests of checkpoints that came from S3, where they are safe already."""

    manifests: frozenset[Sha256] = frozenset()


def brought(folders: Folders) -> frozenset[str]:
    """What :class:`Brought` remembers; nothing before the first download."""
    try:
        return load(Brought, (folders.control / BROUGHT_NAME).read_bytes()).manifests
    except (OSError, UnreadableDocument):
        return frozenset()


def manifest_sha256(checkpoints: Path, step: int) -> str:
    """sha256 of a local checkpoint's manifest; of nothing (the empty text) where it is gone."""
    try:
        return sha256_of(checkpoints / checkpoint_folder(step) / CHECKPOINT_MANIFEST_NAME)
    except NotAFile:
        return ""


def fetch_files(store: Store, bucket: str, prefix: str, files: tuple[FileDigest, ...], aside: Path, check: Check) -> None:
    """Exactly these files from below ``prefix`` in the new folder ``aside``, verified. Raises NotWhole, Absent, OSError, and what ``check`` raises."""
    sizes = {one.key.removeprefix(prefix): one.size for one in store.list(bucket, prefix)}
    for file in files:
        if sizes.get(file.path) != file.size:
            raise NotWhole(f"{file.path} has {sizes.get(file.path)} bytes in S3, should have {file.size}")
    shutil.rmtree(aside, ignore_errors=True)
    for file in files:
        store.download(bucket, prefix + file.path, aside / file.path, aside.parent, check)
    if found := damage(aside, files, check):
        shutil.rmtree(aside)
        raise NotWhole(found)


class Resumer:
    def __init__(self, store: Store, ticket: Ticket, folders: Folders, check: Check) -> None:
        self._store = store
        self._ticket = ticket
        self._folders = folders
        self._check = check
        self._target = folders.run / "checkpoints"

    def fetch(self) -> int | None:
        """The step of the newest whole checkpoint, now in the run folder; None where there is none. Raises Summoned, Denied, OSError."""
        newest: int | None = None
        for candidate in self._candidates():
            self._check()
            if candidate.step == newest:
                continue
            try:
                manifest = self._manifest(candidate)
                if newest is not None and sum(file.size for file in manifest.files) > CHEAP_BYTES:
                    return newest
                self._take(candidate, manifest)
            except Denied:
                # It is listed, so it is there: to begin before it would lose its steps without a word.
                raise
            except (NotWhole, Absent) as error:
                log.warning("checkpoint %s passed over: %s", candidate.prefix, error)
                continue
            log.info("checkpoint %s taken", candidate.prefix)
            if newest is not None:
                return newest
            newest = candidate.step
        return newest

    def _candidates(self) -> list[Candidate]:
        """Published checkpoints of this writer and the earlier ones, the highest step first; of equal steps the newest writer's."""
        found = [candidate for writer in (self._ticket.writer, *self._ticket.earlier_writers) for candidate in self._published(writer)]
        return sorted(found, key=lambda candidate: -candidate.step)

    def _published(self, writer: str) -> Iterator[Candidate]:
        prefix = checkpoints_prefix(self._ticket.job_id, writer)
        for found in self._store.list(self._ticket.outputs_bucket, prefix):
            step = checkpoint_step(found.key)
            if step is not None:
                yield Candidate(step, found.key.removesuffix(CHECKPOINT_MANIFEST_NAME))

    def _manifest(self, candidate: Candidate) -> CheckpointManifest:
        body = self._store.read(self._ticket.outputs_bucket, candidate.prefix + CHECKPOINT_MANIFEST_NAME)
        if body is None:
            raise NotWhole("its manifest is gone")
        try:
            manifest = load(CheckpointManifest, body)
        except UnreadableDocument as error:
            raise NotWhole(str(error)) from None
        if (manifest.job_id, manifest.step) != (self._ticket.job_id, candidate.step):
            raise NotWhole(f"its manifest is of job {manifest.job_id}, step {manifest.step}")
        return manifest

    def _take(self, candidate: Candidate, manifest: CheckpointManifest) -> None:
        place = self._target / checkpoint_folder(candidate.step)
        if place.is_dir() and damage(place, manifest.files, self._check) is None and (place / CHECKPOINT_MANIFEST_NAME).is_file():
            return
        aside = self._folders.incoming / checkpoint_folder(candidate.step)
        fetch_files(self._store, self._ticket.outputs_bucket, candidate.prefix, manifest.files, aside, self._check)
        (aside / CHECKPOINT_MANIFEST_NAME).write_bytes(dump(manifest))
        known = brought(self._folders) | {sha256_of(aside / CHECKPOINT_MANIFEST_NAME)}
        write_whole(self._folders.control / BROUGHT_NAME, dump(Brought(manifests=known)))
        self._publish(aside, place)

    def _publish(self, aside: Path, place: Path) -> None:
        self._target.mkdir(parents=True, exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        aside.replace(place)
